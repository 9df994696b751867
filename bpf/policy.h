/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * May `source` speak to `destination` on this port?
 *
 * User space has evaluated every policy into pairs of classes; here are only look-ups: the pair and,
 * if its answer depends on the port, that. An end that is restricted but of which the table says
 * nothing is refused: fail closed.
 */

static __always_inline void decision_open(struct decision *out, u8 reason)
{
	out->rule = 0;
	out->ports = 0;
	out->verdict = VERDICT_ALLOW;
	out->reason = reason;
	out->flags = 0;
	out->pad = 0;
}

static __always_inline void decision_pending(struct decision *out)
{
	out->rule = 0;
	out->ports = 0;
	out->verdict = VERDICT_DENY;
	out->reason = REASON_POLICY_PENDING;
	out->flags = 0;
	out->pad = 0;
}

static __always_inline bool verdict_lets_through(u8 verdict)
{
	return verdict == VERDICT_ALLOW || verdict == VERDICT_AUDIT;
}

/* policy[source, destination] with the port looked up, if it matters; false if it is not there. */
static __always_inline bool policy_entry(u32 source, u32 destination, u8 protocol, u16 port,
					 struct decision *out)
{
	struct policy_key key = { .source = source, .destination = destination };
	struct decision *found = decision_for(&key);

	if (!found)
		return false;
	if (found->ports) {
		bool known = protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
		struct port_rule_key by_port = {
			.bits = PORT_RULE_BITS,
			.list = found->ports,
			.protocol = known ? protocol : PORT_RULES_OTHER,
			.port = known ? bpf_htons(port) : 0,
		};

		found = port_rule_for(&by_port);
		if (!found)
			return false;
	}
	*out = *found;
	return true;
}

static __always_inline void policy_look_up(u32 source, bool source_closed, u32 destination,
					   bool destination_closed, u8 protocol, u16 port,
					   struct decision *out)
{
	struct decision ingress;

	if (policy_entry(source, destination, protocol, port, out))
		return;
	decision_open(out, REASON_NO_POLICY);
	if (source_closed && !policy_entry(source, CLASS_ANY, protocol, port, out)) {
		decision_pending(out);
		return;
	}
	if (!destination_closed || !verdict_lets_through(out->verdict))
		return;
	if (!policy_entry(CLASS_ANY, destination, protocol, port, &ingress)) {
		decision_pending(out);
		return;
	}
	/* Of two consents the more telling one is kept: what audit mode found, then any rule. */
	if (verdict_lets_through(ingress.verdict) && (out->verdict == VERDICT_AUDIT || !ingress.rule))
		out->flags |= ingress.flags;
	else
		*out = ingress;
}

/* From an enrolled workload to whoever is at the other end. */
static __always_inline void policy_outbound(const struct workload *from, u32 to_class,
					    u32 to_flags, bool v4, u8 protocol, u16 port,
					    struct decision *out)
{
	decision_open(out, REASON_NO_POLICY);
	if (to_flags & END_LOCAL_NODE && !(from->flags & END_QUARANTINED)) {
		out->reason = REASON_LOCAL_NODE;
		return;
	}
	if (!(from->flags & END_EGRESS) && !(to_flags & END_INGRESS))
		return;
	policy_look_up(v4 ? from->class4 : from->class6, from->flags & END_EGRESS, to_class,
		       to_flags & END_INGRESS, protocol, port, out);
}

/* To an enrolled workload from whoever is at the other end. */
static __always_inline void policy_inbound(const struct workload *to, const struct peer *from,
					   bool v4, u8 protocol, u16 port, struct decision *out)
{
	decision_open(out, REASON_NO_POLICY);
	if (!(to->flags & END_QUARANTINED)) {
		if (from->flags & END_LOCAL_NODE) {	/* its workloads were asked at connect */
			out->reason = REASON_LOCAL_NODE;
			return;
		}
		if (from->flags & END_PROXY) {
			out->reason = REASON_NODE_PROXY;
			return;
		}
	}
	if (!(to->flags & END_INGRESS) && !(from->flags & END_EGRESS))
		return;
	policy_look_up(from->class, from->flags & END_EGRESS, v4 ? to->class4 : to->class6,
		       to->flags & END_INGRESS, protocol, port, out);
}
