/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Addresses outside the mesh by the names that they were resolved from (dns.c learns them). Rules by
 * name only ever accept, so names are asked when the address alone has been refused.
 */

/* Is this still known as an address of a name of that pattern? */
static __always_inline bool learnt_is_current(const struct learnt *learnt, u64 now)
{
	return learnt && learnt->expires > now;
}

/*
 * What the names of an address say: its class is that of the address XOR the pattern's number. True
 * if one of them lets it through; then `class` is that class.
 */
static __always_inline bool policy_by_name(const struct settings *cfg, u32 source,
					   const struct endpoint *to, u32 *class,
					   struct decision *out)
{
	struct decision decision = {};
	struct learnt *learnt;

	if (!(cfg->flags & SETTINGS_NAMES))
		return false;
	learnt = learnt_at((struct address *)&to->address);
	if (!learnt_is_current(learnt, bpf_ktime_get_ns()))
		return false;
	for (int i = 0; i < LEARNT_PATTERNS; i++) {
		u32 pattern = learnt->patterns[i];

		if (!pattern)
			break;
		if (!policy_entry(source, *class ^ pattern, to->protocol, bpf_ntohs(to->port),
				  &decision))
			continue;
		if (!verdict_lets_through(decision.verdict))
			continue;
		*class ^= pattern;
		*out = decision;
		return true;
	}
	return false;
}
