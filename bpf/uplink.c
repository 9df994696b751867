/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The node's own interface (tc): what no packet to or from this node may have. Blocked addresses,
 * and what quarantined workloads say that is not an answer to somebody they let in. Local pods are
 * policed at their own interfaces; here are the host network's, and nodes that do not do their part.
 */

static __always_inline void quarantine_deny(struct decision *decision)
{
	decision->rule = 0;
	decision->verdict = VERDICT_DENY;
	decision->reason = REASON_QUARANTINED;
}

/*
 * A quarantined workload somewhere else: only what is part of a connection that it lets in passes.
 * Connections of this node's own processes are its node's to refuse, as addresses do not tell them
 * apart, but nothing may begin there.
 */
static __always_inline bool remote_quarantined(const struct frame *frame,
					       const struct peer *local, const struct peer *remote,
					       struct decision *decision)
{
	if (!(remote->flags & END_QUARANTINED))
		return false;
	if (!frame->outbound && frame_begins(frame)) {
		quarantine_deny(decision);
		return true;
	}
	if (local->flags & END_LOCAL_NODE)
		return false;
	policy_look_up(local->class, local->flags & END_EGRESS, remote->class, true,
		       frame->tuple.protocol, bpf_ntohs(frame->tuple.remote_port), decision);
	return !verdict_lets_through(decision->verdict);
}

/* The same for a workload in this node's own network: its sockets' packets tell whose they are. */
static __always_inline bool local_quarantined(struct __sk_buff *skb, const struct settings *cfg,
					      const struct frame *frame, const struct peer *remote,
					      struct decision *decision, u64 *cgroup)
{
	struct workload *from = frame->outbound ? workload_of_packet(cfg, skb, cgroup) : NULL;

	if (!from || !(from->flags & END_QUARANTINED))
		return false;
	if (frame_begins(frame)) {
		quarantine_deny(decision);
		return true;
	}
	policy_inbound(from, remote, frame->v4, frame->tuple.protocol,
		       bpf_ntohs(frame->tuple.local_port), decision);
	return !verdict_lets_through(decision->verdict);
}

static __always_inline int uplink_stage(struct __sk_buff *skb, bool outbound)
{
	struct frame frame = {};
	struct settings *cfg = settings_get();
	struct endpoint local = {}, remote = {};
	struct peer here = {}, there = {};
	struct decision decision = {};
	bool blocked;
	u64 cgroup = 0;

	if (!cfg || !(cfg->flags & (SETTINGS_QUARANTINE | SETTINGS_BLOCKED)) ||
	    (skb->protocol != bpf_htons(ETH_P_IP) && skb->protocol != bpf_htons(ETH_P_IPV6)))
		return TC_ACT_UNSPEC;
	frame_parse(skb, outbound, &frame);	/* addresses are enough here */
	blocked = decision_blocked(cfg, &frame.tuple.remote, &decision);
	if (!blocked && !(cfg->flags & SETTINGS_QUARANTINE))
		return TC_ACT_UNSPEC;
	remote.address = frame.tuple.remote;
	peer_find(&remote, false, false, &there);
	local.address = frame.tuple.local;
	peer_find(&local, false, false, &here);
	if (!blocked && !remote_quarantined(&frame, &here, &there, &decision) &&
	    !local_quarantined(skb, cfg, &frame, &there, &decision, &cgroup))
		return TC_ACT_UNSPEC;
	frame_refused(cfg, &frame, &here, &there, &decision, cgroup, skb->ifindex, HOOK_UPLINK);
	return TC_ACT_SHOT;
}

int uplink_ingress(struct __sk_buff *skb)
{
	return uplink_stage(skb, false);
}

int uplink_egress(struct __sk_buff *skb)
{
	return uplink_stage(skb, true);
}
