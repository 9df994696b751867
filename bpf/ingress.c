/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets for a workload's sockets: decide at the SYN, or at a peer's first datagram.
 *
 * Every packet of every captured socket passes here, so an established connection's leaves after
 * a handful of instructions.
 */

#define TCP_FLAG_SYN	0x02
#define TCP_FLAG_ACK	0x10
#define LOOPBACK_INTERFACE	1	/* of every network namespace (LOOPBACK_IFINDEX) */

struct packet {
	union {
		struct accepting_key tuple;
		struct {
			struct address remote;
			struct address local;
			__be16 remote_port;
			__be16 local_port;
		};
	};
	__be32 sequence;
	u32 transport;			/* where the header after IP's begins */
	u32 payload;			/* UDP: bytes after the header */
	u32 payload_at;			/* and where they begin */
	u8 protocol;
	u8 tcp_flags;
} __attribute__((aligned(8)));

_Static_assert(__builtin_offsetof(struct packet, sequence) ==
	       __builtin_offsetof(struct identity_tuple, sequence), "the same as in the tuple");

/* True for the packets that make up nearly all traffic: IPv4/IPv6 without options, TCP, no SYN. */
static __always_inline bool tcp_established(struct __sk_buff *skb)
{
	u8 *data = (u8 *)(long)skb->data, *end = (u8 *)(long)skb->data_end;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (data + 40 > end)
			return false;
		return data[9] == IPPROTO_TCP && data[0] == 0x45 && !(data[33] & TCP_FLAG_SYN);
	}
	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		if (data + 60 > end)
			return false;
		return data[6] == IPPROTO_TCP && !(data[53] & TCP_FLAG_SYN);
	}
	return false;
}

/* Offset and protocol of the transport header; -EPROTO when it cannot be found. */
static __always_inline int transport_find(struct __sk_buff *skb, struct address *source,
					  struct address *destination, u8 *protocol)
{
	u8 header[40];
	u32 offset;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (bpf_skb_load_bytes(skb, 0, header, 20))
			return -EPROTO;
		address_from4(source, *(__be32 *)(header + 12));
		address_from4(destination, *(__be32 *)(header + 16));
		*protocol = header[9];
		return (header[0] & 15) * 4;
	}
	if (skb->protocol != bpf_htons(ETH_P_IPV6) || bpf_skb_load_bytes(skb, 0, header, 40))
		return -EPROTO;
	__builtin_memcpy(source, header + 8, 16);
	__builtin_memcpy(destination, header + 24, 16);
	*protocol = header[6];
	offset = 40;
	for (int i = 0; i < 6; i++) {		/* extension headers (RFC 8200, section 4) */
		u8 next[2];

		if (*protocol != IPPROTO_HOPOPTS && *protocol != IPPROTO_ROUTING &&
		    *protocol != IPPROTO_DSTOPTS && *protocol != IPPROTO_FRAGMENT)
			return offset;
		if (bpf_skb_load_bytes(skb, offset, next, 2))
			return -EPROTO;
		offset += *protocol == IPPROTO_FRAGMENT ? 8 : (next[1] + 1) * 8;
		*protocol = next[0];
	}
	return -EPROTO;
}

/* 0, or -EPROTO for a packet that no socket should see. */
static __always_inline int packet_parse(struct __sk_buff *skb, bool inbound, struct packet *packet)
{
	struct address source, destination;
	__be16 ports[2];
	u16 length;
	int offset = transport_find(skb, &source, &destination, &packet->protocol);

	if (offset < 0)
		return offset;
	if (packet->protocol != IPPROTO_TCP && packet->protocol != IPPROTO_UDP)
		return 0;
	if (bpf_skb_load_bytes(skb, offset, ports, 4))
		return -EPROTO;
	packet->transport = offset;
	packet->remote = inbound ? source : destination;
	packet->local = inbound ? destination : source;
	packet->remote_port = inbound ? ports[0] : ports[1];
	packet->local_port = inbound ? ports[1] : ports[0];
	if (packet->protocol == IPPROTO_UDP) {
		packet->payload = skb->len - offset - 8;
		packet->payload_at = offset + 8;
		return 0;
	}
	if (bpf_skb_load_bytes(skb, offset + 4, &packet->sequence, 4) ||
	    bpf_skb_load_bytes(skb, offset + 13, &packet->tcp_flags, 1))
		return -EPROTO;
	return 0;
}

static __always_inline bool packet_is_syn(const struct packet *packet)
{
	return (packet->tcp_flags & (TCP_FLAG_SYN | TCP_FLAG_ACK)) == TCP_FLAG_SYN;
}

static __always_inline u8 inbound_flags(u32 claim, const struct decision *decision)
{
	return (claim ? FLOW_AUTHENTICATED : 0) |
	       (decision->flags & DECISION_STRICT ? FLOW_STRICT : 0);
}

static __always_inline struct flow *inbound_flow(const struct settings *cfg,
						 const struct workload *to, u64 cgroup,
						 const struct packet *packet,
						 const struct peer *from, u32 claim,
						 const struct decision *decision)
{
	struct flow *flow = flow_draft();

	if (!flow)
		return NULL;		/* there always is one; the verifier does not know */
	flow->started = bpf_ktime_get_ns();
	flow->established = flow->started;
	flow->cgroup = cgroup;
	flow->dialled = packet->local;
	flow->dialled_port = packet->local_port;
	flow->actual = packet->remote;
	flow->actual_port = packet->remote_port;
	flow->source = from->identity;
	flow->destination = to->identity;
	flow->source_class = from->class;
	flow->destination_class = workload_class(to, &packet->local);
	flow->rule = decision->rule;
	flow->epoch = cfg->policy_epoch;
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

static __always_inline int syn_stage(const struct settings *cfg, struct __sk_buff *skb,
				     const struct workload *to, u64 cgroup, struct packet *packet)
{
	struct decision decision = {};
	struct limit *limit = NULL;
	struct peer from = {};
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
	decision_blocked(cfg, &packet->remote, &decision);
	if (verdict_lets_through(decision.verdict)) {
		limit = limit_inbound(to, cgroup, &from, packet->local_port, IPPROTO_TCP);
		if (limit)
			limit_decide(limit, limit_syn(cfg, limit, from.identity, &packet->tuple,
						      packet->sequence), &decision);
	}
	if (!verdict_lets_through(decision.verdict)) {
		struct flow *flow = inbound_flow(cfg, to, cgroup, packet, &from, claim, &decision);

		return flow ? inbound_refuse(flow, packet, bpf_get_socket_cookie(skb)) : -EPERM;
	}
	struct accepting value = {
		.cgroup = cgroup,
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

static __always_inline int datagram_stage(const struct settings *cfg, const struct workload *to,
					  u64 cgroup, struct packet *packet, u64 cookie)
{
	struct datagram_key key = {
		.cookie = cookie,
		.remote = packet->remote,
		.port = packet->remote_port,
	};
	struct flow *known = exchange_at(&key), *flow;
	struct decision decision = {};
	struct counters *counters;
	struct limit *limit;
	struct peer from = {};

	if (known) {
		if (exchange_check(cfg, to, &key, known, HOOK_INGRESS))
			return -EPERM;
		exchange_count(known, packet->payload, true);
		return 0;
	}
	inbound_caller(to, packet, &from);
	inbound_decide(to, packet, &from, 0, &decision);
	decision_blocked(cfg, &packet->remote, &decision);
	if (verdict_lets_through(decision.verdict)) {
		limit = limit_inbound(to, cgroup, &from, packet->local_port, IPPROTO_UDP);
		if (limit)
			limit_decide(limit, limit_datagram(cfg, limit, from.identity, &key.remote),
				     &decision);
	}
	flow = inbound_flow(cfg, to, cgroup, packet, &from, 0, &decision);
	if (!flow)
		return -EPERM;
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

/*
 * Loopback inside a pod stays inside the pod. A packet from outside may pretend: IPv6 lets in what
 * comes from an address of the receiver's own.
 */
static __always_inline bool inside_pod(struct __sk_buff *skb, const struct workload *to,
				       const struct packet *packet)
{
	return !(to->flags & END_HOST) && skb->ingress_ifindex == LOOPBACK_INTERFACE &&
	       (address_is_loopback(&packet->remote) ||
		address_same(&packet->remote, &packet->local));
}

static __always_inline bool from_resolver(const struct packet *packet)
{
	struct endpoint at = {
		.address = packet->remote,
		.port = packet->remote_port,
		.protocol = packet->protocol,
	};

	return is_resolver(&at);
}

static __always_inline int ingress_stage(struct __sk_buff *skb)
{
	struct settings *cfg = settings_get();
	struct packet packet = {};
	struct workload *to;
	u64 cgroup;
	int error;

	if (!cfg)
		return 0;
	to = workload_of_packet(cfg, skb, &cgroup);
	if (!to)
		return 0;
	error = packet_parse(skb, true, &packet);
	if (error)
		return to->flags & END_INGRESS ? error : 0;
	if (inside_pod(skb, to, &packet))
		return 0;
	if (packet.protocol == IPPROTO_UDP) {
		if (datagram_stage(cfg, to, cgroup, &packet, bpf_get_socket_cookie(skb)))
			return -EPERM;
		if (cfg->flags & SETTINGS_NAMES && from_resolver(&packet))
			call(skb, CALL_DNS);
		return 0;
	}
	if (packet.protocol == IPPROTO_TCP && packet_is_syn(&packet))
		return syn_stage(cfg, skb, to, cgroup, &packet);
	return 0;
}

int mesh_ingress(struct __sk_buff *skb)
{
	if (tcp_established(skb))
		return 1;
	return ingress_stage(skb) ? 0 : 1;
}

/*
 * The exchange that an outgoing datagram belongs to. That of a connected socket may have been quiet
 * for so long that it is not known any more; then it begins anew from what connect() decided.
 */
static __always_inline struct flow *outgoing_exchange(struct datagram_key *key)
{
	struct flow *known = datagram_flow(key), *connected, again;

	if (known)
		return known;
	connected = socket_flow(key->cookie);
	if (!connected || connected->protocol != IPPROTO_UDP || connected->actual_port != key->port ||
	    !address_same(&connected->actual, &key->remote))
		return NULL;
	if (connected->flags & FLOW_UNTRACKED)
		return connected;
	again = *connected;
	again.started = bpf_ktime_get_ns();
	exchange_begin(key, &again);
	connected->flags |= again.flags & FLOW_UNTRACKED;
	return again.flags & FLOW_UNTRACKED ? connected : datagram_flow(key);
}

/* For a datagram to a workload of this node: its ingress hook finds it under its own view of it. */
static __always_inline void outgoing_vouch(const struct packet *packet)
{
	struct accepting_key key = {
		.remote = packet->local,
		.local = packet->remote,
		.remote_port = packet->local_port,
		.local_port = packet->remote_port,
	};

	vouch(&key);
}

/* Outgoing datagrams; a connected socket's pass no other hook. */
static __always_inline int egress_stage(struct __sk_buff *skb)
{
	struct settings *cfg = settings_get();
	struct packet packet = {};
	struct datagram_key key = {};
	struct workload *from;
	struct flow *known;
	u64 cgroup;

	if (!cfg || packet_parse(skb, false, &packet) || packet.protocol != IPPROTO_UDP)
		return 0;
	key.cookie = bpf_get_socket_cookie(skb);
	key.remote = packet.remote;
	key.port = packet.remote_port;
	known = outgoing_exchange(&key);
	if (!known)
		return 0;
	if (known->epoch != cfg->policy_epoch || !verdict_lets_through(known->verdict)) {
		from = workload_of_packet(cfg, skb, &cgroup);
		if (from && exchange_check(cfg, from, &key, known, HOOK_EGRESS))
			return -EPERM;
	}
	if (known->flags & FLOW_STRICT && known->direction == DIRECTION_OUTBOUND)
		outgoing_vouch(&packet);
	exchange_count(known, packet.payload, false);
	return 0;
}

int mesh_egress(struct __sk_buff *skb)
{
	if (tcp_established(skb))
		return 1;
	return egress_stage(skb) ? 0 : 1;
}
