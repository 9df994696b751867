/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets for a workload's sockets: a SYN is decided about, a peer's first datagram, and its next
 * one after a change of policy (inbound.c).
 *
 * Every packet of every captured socket passes here, so an established connection's leaves after
 * a handful of instructions.
 */

#define TCP_FLAG_SYN	0x02
#define TCP_FLAG_ACK	0x10
#define LOOPBACK_INTERFACE	1	/* of every network namespace (LOOPBACK_IFINDEX) */

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

/* Has a pod's packet one of its own addresses at the other end too? */
static __always_inline bool says_itself(const struct workload *pod, const struct packet *packet)
{
	return !(pod->flags & END_HOST) && (address_is_loopback(&packet->remote) ||
					    address_same(&packet->remote, &packet->local));
}

/*
 * Loopback inside a pod stays inside the pod. A packet from outside may pretend: IPv6 lets in what
 * comes from an address of the receiver's own.
 */
static __always_inline bool inside_pod(struct __sk_buff *skb, const struct workload *to,
				       const struct packet *packet)
{
	return skb->ingress_ifindex == LOOPBACK_INTERFACE && says_itself(to, packet);
}

/*
 * Does a packet from outside say that it is this node's own? IPv4 does not let it in; IPv6 does, and
 * policy lets in whatever comes from the node. For pods that is seen at their interfaces.
 */
static __always_inline bool feigns_node(struct __sk_buff *skb, const struct workload *to,
					const struct packet *packet)
{
	struct peer *said;

	if (!(to->flags & END_HOST) || skb->ingress_ifindex == LOOPBACK_INTERFACE ||
	    address_is4(&packet->remote))
		return false;
	said = peer_at((struct address *)&packet->remote);
	return said && said->flags & END_LOCAL_NODE;
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

static __always_inline bool learns_names(const struct settings *cfg, const struct packet *packet)
{
	return cfg->flags & SETTINGS_NAMES && from_resolver(packet);
}

/* Another program decides; returns only if it is not there, and then nothing is let in. */
static __always_inline int arrival_leave(struct __sk_buff *skb, const struct packet *packet,
					 u64 cgroup, u32 program)
{
	struct arrival *arrival = arrival_get();

	if (!arrival)
		return -EPERM;
	arrival->packet = *packet;
	arrival->cgroup = cgroup;
	call(skb, program);
	return -EPERM;
}

static __always_inline int ingress_stage(struct __sk_buff *skb)
{
	struct settings *cfg = settings_get();
	struct datagram_key key = {};
	struct packet packet = {};
	struct workload *to;
	struct flow *known;
	u64 cgroup;
	u32 epoch;
	int error;

	if (!cfg)
		return 0;
	epoch = policy_now(cfg);
	to = workload_of_packet(cfg, skb, &cgroup);
	if (!to)
		return 0;
	error = packet_parse(skb, true, &packet);
	if (error)
		return to->flags & END_INGRESS ? error : 0;
	if (inside_pod(skb, to, &packet))
		return 0;
	if (packet.protocol == IPPROTO_TCP)
		return packet_is_syn(&packet) ? arrival_leave(skb, &packet, cgroup, CALL_SYN) : 0;
	if (packet.protocol != IPPROTO_UDP)
		return 0;
	key.cookie = bpf_get_socket_cookie(skb);
	key.remote = packet.remote;
	key.port = packet.remote_port;
	known = exchange_at(&key);
	if (!known || known->epoch != epoch || !verdict_lets_through(known->verdict) ||
	    feigns_node(skb, to, &packet))
		return arrival_leave(skb, &packet, cgroup, CALL_DATAGRAM);
	exchange_count(known, packet.payload, true);
	if (learns_names(cfg, &packet))
		call(skb, CALL_DNS);
	return 0;
}

int mesh_ingress(struct __sk_buff *skb)
{
	if (tcp_established(skb))
		return 1;
	return ingress_stage(skb) ? 0 : 1;
}

/*
 * A datagram of a workload that no hook has decided about: its socket was connected before it was
 * enrolled, or has spoken with others since. The flow says so; false if it is not ours.
 */
static __always_inline bool outgoing_stranger(const struct settings *cfg, u32 epoch,
					      struct __sk_buff *skb, const struct packet *packet,
					      struct flow *flow)
{
	struct workload *from;
	struct peer *peer;
	u64 cgroup;

	from = workload_of_packet(cfg, skb, &cgroup);
	if (!from || says_itself(from, packet))
		return false;
	peer = peer_at((struct address *)&packet->remote);
	flow->cgroup = cgroup;
	flow->dialled = packet->remote;
	flow->dialled_port = packet->remote_port;
	flow->actual = packet->remote;
	flow->actual_port = packet->remote_port;
	flow->source = from->identity;
	flow->source_class = workload_class(from, &packet->remote);
	flow->destination = peer ? peer->identity : IDENTITY_WORLD;
	flow->claim = from->claim;
	flow->epoch = epoch - 1;		/* still to be decided */
	flow->protocol = IPPROTO_UDP;
	flow->direction = DIRECTION_OUTBOUND;
	flow->verdict = VERDICT_ALLOW;
	flow->reason = REASON_OPEN_BEFORE;
	flow->hook = HOOK_EGRESS;
	return true;
}

/*
 * The exchange that an outgoing datagram belongs to. That of a connected socket may have been quiet
 * for so long that it is not known any more; then it begins anew from what connect() decided.
 */
static __always_inline struct flow *outgoing_exchange(const struct settings *cfg, u32 epoch,
						      struct __sk_buff *skb,
						      const struct packet *packet,
						      struct datagram_key *key)
{
	struct flow *known = datagram_flow(key), *connected, again = {};

	if (known)
		return known;
	connected = socket_flow(key->cookie);
	if (connected && connected->protocol == IPPROTO_UDP &&
	    connected->actual_port == key->port && address_same(&connected->actual, &key->remote)) {
		if (connected->flags & FLOW_UNTRACKED)
			return connected;
		again = *connected;
	} else {
		if (!outgoing_stranger(cfg, epoch, skb, packet, &again))
			return NULL;
		socket_flow_new(key->cookie, &again);	/* so that its end is seen */
	}
	again.started = bpf_ktime_get_ns();
	exchange_begin(key, &again);
	if (!(again.flags & FLOW_UNTRACKED))
		return datagram_flow(key);
	socket_flow_put(key->cookie, &again);
	return socket_flow(key->cookie);
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
	u32 epoch;

	if (!cfg || packet_parse(skb, false, &packet) || packet.protocol != IPPROTO_UDP)
		return 0;
	epoch = policy_now(cfg);
	key.cookie = bpf_get_socket_cookie(skb);
	key.remote = packet.remote;
	key.port = packet.remote_port;
	known = outgoing_exchange(cfg, epoch, skb, &packet, &key);
	if (!known)
		return 0;
	if (known->epoch != epoch || !verdict_lets_through(known->verdict)) {
		from = workload_of_packet(cfg, skb, &cgroup);
		if (from && exchange_check(cfg, epoch, from, &key, known, HOOK_EGRESS))
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
