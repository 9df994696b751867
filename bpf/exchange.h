/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * UDP has no connections; an exchange is what a socket and one peer say to each other. It is decided
 * at its first datagram, and again when policy has changed, in the direction in which it began.
 */

static __always_inline void exchange_begin(struct datagram_key *key, struct flow *flow)
{
	flow->established = flow->started;
	flow_opened(flow);
	if (!datagram_flow_put(key, flow))
		return;
	flow->flags |= FLOW_UNTRACKED;
	loss(LOSS_FLOW);
}

/*
 * What a socket and a peer say to each other, if that is known. The table of exchanges may be full,
 * as when no agent has been there for long to forget old ones; then the flow of the socket stands
 * for what it began last, so that its answers are let in and a change of policy finds it.
 */
static __always_inline struct flow *exchange_at(struct datagram_key *key)
{
	struct flow *known = datagram_flow(key), *last;

	if (known)
		return known;
	last = socket_flow(key->cookie);
	if (!last || !(last->flags & FLOW_UNTRACKED) || last->actual_port != key->port ||
	    !address_same(&last->actual, &key->remote))
		return NULL;
	return last;
}

static __always_inline void exchange_count(struct flow *flow, u32 payload, bool inbound)
{
	struct counters *counters = flow_counters(flow);

	flow->established = bpf_ktime_get_ns();
	__sync_fetch_and_add(inbound ? &flow->received : &flow->sent, payload);
	if (counters)
		__sync_fetch_and_add(inbound ? &counters->received : &counters->sent, payload);
}

/* Policy has changed its mind: the record of what was ends, and that of the refusal is made. */
static __always_inline void exchange_refuse(struct datagram_key *key, struct flow *known,
					    const struct decision *decision, u8 hook)
{
	flow_released(known, key->cookie, STATE_CLOSED);
	known->started = bpf_ktime_get_ns();
	known->sent = 0;
	known->received = 0;
	known->rule = decision->rule;
	known->reason = decision->reason;
	known->verdict = decision->verdict;
	known->hook = hook;
	flow_denied(known, key->cookie);
}

static __always_inline void exchange_decide(const struct workload *workload,
					    const struct flow *known, struct decision *decision)
{
	bool began_here = known->direction == DIRECTION_OUTBOUND;
	struct endpoint at = {
		.address = known->actual,
		.port = known->actual_port,
		.protocol = IPPROTO_UDP,
	};
	struct peer peer = {};

	peer_find(&at, workload->flags & END_HOST, began_here, &peer);
	if (began_here) {
		policy_outbound(workload, peer.class, peer.flags, address_is4(&at.address),
				IPPROTO_UDP, bpf_ntohs(at.port), decision);
		/* What it was allowed by name goes on for as long as the rule does. */
		if (decision->verdict == VERDICT_DENY && peer.identity == IDENTITY_WORLD &&
		    known->destination_class != peer.class)
			policy_entry(known->source_class, known->destination_class, IPPROTO_UDP,
				     bpf_ntohs(at.port), decision);
		identity_require(decision, peer.flags & END_LOCAL);
	} else {
		struct accepting_key connection = {
			.remote = known->actual,
			.local = known->dialled,
			.remote_port = known->actual_port,
			.local_port = known->dialled_port,
		};

		policy_inbound(workload, &peer, address_is4(&at.address), IPPROTO_UDP,
			       bpf_ntohs(known->dialled_port), decision);
		if (decision->flags & DECISION_STRICT)
			identity_require(decision, identity_vouched(&connection));
	}
}

/*
 * May a known exchange go on? 0 or -EPERM. A refused one stays known, so that it stays refused.
 * `epoch` was taken before `workload` was looked up.
 */
static __always_inline int exchange_check(const struct settings *cfg, u32 epoch,
					  const struct workload *workload,
					  struct datagram_key *key, struct flow *known, u8 hook)
{
	bool open = verdict_lets_through(known->verdict);
	struct decision decision = {};

	if (known->epoch != epoch) {
		bool was_open = open;

		exchange_decide(workload, known, &decision);
		workload_blocked(cfg, workload, &known->actual, &decision);
		known->flags &= ~FLOW_STRICT;
		if (decision.flags & DECISION_STRICT)
			known->flags |= FLOW_STRICT;
		open = verdict_lets_through(decision.verdict);
		if (open) {
			known->rule = decision.rule;
			known->reason = decision.reason;
			known->verdict = decision.verdict;
		} else if (was_open) {
			exchange_refuse(key, known, &decision, hook);
		}
		barrier();			/* the verdict first */
		known->epoch = epoch;
		if (open && !was_open) {
			known->started = bpf_ktime_get_ns();
			flow_opened(known);
		}
		if (open || was_open)
			return open ? 0 : -EPERM;
	}
	if (open)
		return 0;
	flow_refused_again(known);
	return -EPERM;
}
