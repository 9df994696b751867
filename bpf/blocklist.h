/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Addresses that nobody in the mesh talks to, whatever policies say. */

static __always_inline bool decision_blocked(const struct settings *cfg,
					     const struct address *address,
					     struct decision *decision)
{
	struct block_key key = { .bits = 128, .address = *address };
	u32 *rule;

	if (!(cfg->flags & SETTINGS_BLOCKED))
		return false;
	rule = blocked_by(&key);
	if (!rule || !*rule)
		return false;
	decision->rule = *rule;
	decision->verdict = VERDICT_DENY;
	decision->reason = REASON_BLOCKED;
	return true;
}

/* What a workload may not reach because that address, or the workload's own, is blocked. */
static __always_inline void outbound_blocked(const struct settings *cfg,
					     const struct workload *from,
					     const struct address *to, struct decision *decision)
{
	if (!(from->flags & END_BLOCKED)) {
		decision_blocked(cfg, to, decision);
		return;
	}
	decision->rule = 0;
	decision->verdict = VERDICT_DENY;
	decision->reason = REASON_BLOCKED;
}
