/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * May `source` speak to `destination` on this port?
 *
 * User space has evaluated every policy into pairs of classes; here is only the look-up. A pair of
 * which either end is restricted but that is not in the map is refused: fail closed.
 */

static __always_inline void policy_look_up(const struct settings *cfg, u32 source, u32 destination,
					   u8 protocol, u16 port, struct decision *out)
{
	struct policy_key key = {
		.source = source,
		.destination = destination,
		.protocol = protocol,
	};

	for (int length = 16; length >= 0; length--) {
		if (!(cfg->port_lengths & (1u << length)))
			continue;
		key.length = length;
		key.port = length ? port & (0xffffu << (16 - length)) : 0;

		struct decision *found = decision_for(&key);

		if (found) {
			*out = *found;
			return;
		}
	}
	out->rule = 0;
	out->verdict = VERDICT_DENY;
	out->reason = REASON_POLICY_PENDING;
	out->pad = 0;
}

/* From an enrolled workload to whoever is at the other end. */
static __always_inline void policy_outbound(const struct settings *cfg, const struct workload *from,
					    u32 to_class, u32 to_flags, bool v4, u8 protocol,
					    u16 port, struct decision *out)
{
	out->rule = 0;
	out->verdict = VERDICT_ALLOW;
	out->reason = REASON_NO_POLICY;
	out->pad = 0;
	if (to_flags & END_LOCAL_NODE) {
		out->reason = REASON_LOCAL_NODE;
		return;
	}
	if (!(from->flags & END_EGRESS) && !(to_flags & END_INGRESS))
		return;
	policy_look_up(cfg, v4 ? from->class4 : from->class6, to_class, protocol, port, out);
}

/* To an enrolled workload from whoever is at the other end. */
static __always_inline void policy_inbound(const struct settings *cfg, const struct workload *to,
					   const struct peer *from, bool v4, u8 protocol, u16 port,
					   struct decision *out)
{
	out->rule = 0;
	out->verdict = VERDICT_ALLOW;
	out->reason = REASON_NO_POLICY;
	out->pad = 0;
	if (from->flags & END_LOCAL_NODE) {	/* its workloads were asked at connect */
		out->reason = REASON_LOCAL_NODE;
		return;
	}
	if (from->flags & END_PROXY) {
		out->reason = REASON_NODE_PROXY;
		return;
	}
	if (!(to->flags & END_INGRESS))
		return;
	policy_look_up(cfg, from->class, v4 ? to->class4 : to->class6, protocol, port, out);
}
