/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What begins at a workload: the verdict on a SYN, and on a peer's first datagram. And what became of
 * an exchange since policy has changed.
 *
 * These programs go on where mesh_ingress ends. They find the packet in the arrival, so their
 * verifier need not follow every way in which it can be taken apart.
 */

static __always_inline u8 inbound_flags(u32 claim, const struct decision *decision)
{
	return (claim ? FLOW_AUTHENTICATED : 0) |
	       (decision->flags & DECISION_STRICT ? FLOW_STRICT : 0);
}

static __always_inline struct flow *inbound_flow(u32 epoch, const struct workload *to,
						 struct arrival *arrival,
						 const struct peer *from, u32 claim,
						 const struct decision *decision)
{
	const struct packet *packet = &arrival->packet;
	struct flow *flow = &arrival->flow;

	__builtin_memset(flow, 0, sizeof(*flow));
	flow->started = bpf_ktime_get_ns();
	flow->established = flow->started;
	flow->cgroup = arrival->cgroup;
	flow->dialled = packet->local;
	flow->dialled_port = packet->local_port;
	flow->actual = packet->remote;
	flow->actual_port = packet->remote_port;
	flow->source = from->identity;
	flow->destination = to->identity;
	flow->source_class = from->class;
	flow->destination_class = workload_class(to, &packet->local);
	flow->rule = decision->rule;
	flow->epoch = epoch;
	flow->claim = claim;
	flow->flags = inbound_flags(claim, decision);
	flow->protocol = packet->protocol;
	flow->direction = DIRECTION_INBOUND;
	flow->verdict = decision->verdict;
	flow->reason = decision->reason;
	flow->path = from->flags & END_PROXY ? PATH_PROXY : PATH_DIRECT;
	flow->hook = HOOK_INGRESS;
	return flow;
}

static __always_inline void inbound_caller(const struct workload *to, const struct packet *packet,
					   struct peer *from)
{
	struct endpoint at = {
		.address = packet->remote,
		.port = packet->remote_port,
		.protocol = packet->protocol,
	};

	peer_find(&at, to->flags & END_HOST, false, from);
}

/* `claim` is not 0 for a caller that has proved who it is. */
static __always_inline void inbound_decide(const struct workload *to, struct packet *packet,
					   const struct peer *from, u32 claim,
					   struct decision *decision)
{
	policy_inbound(to, from, address_is4(&packet->remote), packet->protocol,
		       bpf_ntohs(packet->local_port), decision);
	if (decision->flags & DECISION_STRICT && !claim)
		identity_require(decision, identity_vouched(&packet->tuple));
}

/* The claim of a SYN if it is true; 0 if there is none or nobody looks; -EPERM if it is false. */
static __always_inline s64 inbound_claim(const struct settings *cfg, struct __sk_buff *skb,
					 const struct packet *packet, struct peer *from)
{
	if (!(cfg->flags & SETTINGS_IDENTITY))
		return 0;
	return identity_verify(skb, packet->transport, (const struct identity_tuple *)packet, from);
}

/* A refused packet: every one is counted, each attempt is told once. */
static __always_inline int inbound_refuse(const struct flow *flow, const struct packet *packet,
					  u64 cookie)
{
	struct refused_key key = {
		.remote = packet->remote,
		.remote_port = packet->remote_port,
		.local_port = packet->local_port,
		.sequence = packet->sequence,
	};

	if (refused_note(&key, flow->started))
		flow_refused_again(flow);
	else
		flow_denied(flow, cookie);
	return -EPERM;
}

static __always_inline int syn_stage(const struct settings *cfg, u32 epoch, struct __sk_buff *skb,
				     const struct workload *to, struct arrival *arrival)
{
	struct packet *packet = &arrival->packet;
	struct decision decision = {};
	struct limit *limit = NULL;
	struct peer from = {};
	struct flow *flow;
	s64 claim;

	inbound_caller(to, packet, &from);
	claim = inbound_claim(cfg, skb, packet, &from);
	if (claim < 0) {
		decision.verdict = VERDICT_DENY;
		decision.reason = REASON_IDENTITY_FORGED;
		claim = 0;
	} else {
		inbound_decide(to, packet, &from, claim, &decision);
	}
	workload_blocked(cfg, to, &packet->remote, &decision);
	if (verdict_lets_through(decision.verdict)) {
		limit = limit_inbound(to, arrival->cgroup, &from, packet->local_port, IPPROTO_TCP);
		if (limit)
			limit_decide(limit, limit_syn(cfg, limit, from.identity, &packet->tuple,
						      packet->sequence), &decision);
	}
	if (!verdict_lets_through(decision.verdict)) {
		flow = inbound_flow(epoch, to, arrival, &from, claim, &decision);
		return inbound_refuse(flow, packet, bpf_get_socket_cookie(skb));
	}
	struct accepting value = {
		.cgroup = arrival->cgroup,
		.source = from.identity,
		.destination = to->identity,
		.source_class = from.class,
		.destination_class = workload_class(to, &packet->local),
		.rule = decision.rule,
		.verdict = decision.verdict,
		.reason = decision.reason,
		.path = from.flags & END_PROXY ? PATH_PROXY : PATH_DIRECT,
		.flags = inbound_flags(claim, &decision),
		.limited = limit ? 1 : 0,
		.claim = claim,
	};

	accepting_put(&packet->tuple, &value);
	return 0;
}

static __always_inline int datagram_stage(const struct settings *cfg, u32 epoch,
					  const struct workload *to, struct arrival *arrival,
					  u64 cookie)
{
	struct packet *packet = &arrival->packet;
	struct datagram_key key = {
		.cookie = cookie,
		.remote = packet->remote,
		.port = packet->remote_port,
	};
	struct decision decision = {};
	struct counters *counters;
	struct limit *limit;
	struct flow *known = exchange_at(&key), *flow;
	struct peer from = {};

	if (known) {
		if (exchange_check(cfg, epoch, to, &key, known, HOOK_INGRESS))
			return -EPERM;
		exchange_count(known, packet->payload, true);
		return 0;
	}
	inbound_caller(to, packet, &from);
	inbound_decide(to, packet, &from, 0, &decision);
	workload_blocked(cfg, to, &packet->remote, &decision);
	if (verdict_lets_through(decision.verdict)) {
		limit = limit_inbound(to, arrival->cgroup, &from, packet->local_port, IPPROTO_UDP);
		if (limit)
			limit_decide(limit, limit_datagram(cfg, limit, from.identity, &key.remote),
				     &decision);
	}
	flow = inbound_flow(epoch, to, arrival, &from, 0, &decision);
	if (!verdict_lets_through(decision.verdict))
		return inbound_refuse(flow, packet, cookie);
	flow->received = packet->payload;
	counters = flow_counters(flow);
	if (counters) {
		__sync_fetch_and_add(&counters->opened, 1);
		__sync_fetch_and_add(&counters->received, packet->payload);
	}
	if (datagram_flow_put(&key, flow))
		loss(LOSS_FLOW);
	return 0;
}

static __always_inline int feigned_stage(u32 epoch, const struct workload *to,
					 struct arrival *arrival, u64 cookie)
{
	struct decision decision = {
		.verdict = VERDICT_DENY,
		.reason = REASON_SOURCE_SPOOFED,
	};
	struct peer from = { .identity = IDENTITY_WORLD };

	return inbound_refuse(inbound_flow(epoch, to, arrival, &from, 0, &decision),
			      &arrival->packet, cookie);
}

int mesh_syn(struct __sk_buff *skb)
{
	struct settings *cfg = settings_get();
	struct arrival *arrival = arrival_get();
	struct workload *to;
	u32 epoch;
	int error;

	if (!cfg || !arrival)
		return 0;
	epoch = policy_now(cfg);
	to = workload_at(arrival->cgroup);
	if (!to)
		return 0;
	if (feigns_node(skb, to, &arrival->packet))
		error = feigned_stage(epoch, to, arrival, bpf_get_socket_cookie(skb));
	else
		error = syn_stage(cfg, epoch, skb, to, arrival);
	return error ? 0 : 1;
}

int mesh_datagram(struct __sk_buff *skb)
{
	u64 cookie = bpf_get_socket_cookie(skb);
	struct settings *cfg = settings_get();
	struct arrival *arrival = arrival_get();
	struct workload *to;
	u32 epoch;
	int error;

	if (!cfg || !arrival)
		return 0;
	epoch = policy_now(cfg);
	to = workload_at(arrival->cgroup);
	if (!to)
		return 0;
	if (feigns_node(skb, to, &arrival->packet))
		error = feigned_stage(epoch, to, arrival, cookie);
	else
		error = datagram_stage(cfg, epoch, to, arrival, cookie);
	if (error)
		return 0;
	if (learns_names(cfg, &arrival->packet))
		call(skb, CALL_DNS);
	return 1;
}
