/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A packet at a pod's interface: whose it is, whether the socket hooks answer for it, and if not,
 * what policy says.
 */

#define END_CUT		(END_QUARANTINED | END_BLOCKED)
#define END_CLOSED	(END_EGRESS | END_INGRESS | END_CUT)

struct passage {
	struct frame frame;
	struct workload pod;		/* who is behind the interface, in this family */
	u64 cgroup;
	u32 level;
	s32 netns;
	struct peer peer;		/* who is at the other end */
	struct decision decision;	/* why it does not pass */
	u32 epoch;			/* policy_epoch before anything was looked up */
};

static __always_inline struct interface *interface_at(u32 index, const struct address *address)
{
	struct interface_key key = { .index = index, .address = *address };

	return interface_find(&key);
}

/* The same for nearly every packet: the address that was asked for last. */
static __always_inline struct interface *interface_again(const struct settings *cfg, u32 index,
							 const struct address *address)
{
	struct seen *seen = seen_at(index << 1 | address_is4(address));
	struct interface *found;
	u32 epoch = policy_now(cfg);

	if (!seen)
		return NULL;
	if (seen->key.index == index && seen->epoch == epoch &&
	    address_same(&seen->key.address, address))
		return &seen->interface;
	found = interface_at(index, address);
	if (!found)
		return NULL;
	seen->key.index = index;
	seen->key.address = *address;
	seen->epoch = epoch;
	seen->interface = *found;
	return &seen->interface;
}

/* Who is behind an interface, whatever the address. */
static __always_inline struct interface *interface_owner(u32 index, bool v4)
{
	struct interface_key key = { .index = index };

	if (v4)
		key.address.ip[2] = MAPPED_PREFIX;
	return interface_find(&key);
}

static __always_inline void passage_of(const struct interface *owner, struct passage *passage)
{
	passage->pod.identity = owner->identity;
	passage->pod.class4 = owner->class;
	passage->pod.class6 = owner->class;
	passage->pod.flags = owner->flags;
	passage->cgroup = owner->cgroup;
	passage->level = owner->level;
	passage->netns = owner->netns;
}

static __always_inline int passage_deny(struct passage *passage, u8 reason)
{
	passage->decision.rule = 0;
	passage->decision.verdict = VERDICT_DENY;
	passage->decision.reason = reason;
	return -EPERM;
}

/* -- do the socket hooks answer for it? ------------------------------------------------------- */

/* The barriers keep the reads apart, as the verifier wants them. */
static __always_inline bool socket_is(struct bpf_sock *full, u32 type, u32 protocol)
{
	u32 found;

	if (!full || full->type != type)
		return false;
	barrier();
	found = full->protocol;
	barrier();
	return found == protocol;
}

/*
 * Does a connection that the socket hooks decided about say this? The packet's socket is one of the
 * pod's own TCP sockets, and the packet goes where that socket is connected to: a raw or a packet
 * socket, a tunnel and address translation inside the pod show by that. Sockets that have lost their
 * port or their cgroup because the connection is over may still say so (BPF_TCP_CLOSE, _TIME_WAIT).
 */
static __always_inline bool socket_is_tcp(struct __sk_buff *skb, struct bpf_sock *sk, u64 cgroup,
					  u32 level)
{
	if (sk->state == BPF_TCP_TIME_WAIT)
		return true;
	if (bpf_skb_ancestor_cgroup_id(skb, level) != cgroup)
		return false;
	return sk->state == BPF_TCP_NEW_SYN_RECV ||
	       socket_is(bpf_sk_fullsock(sk), SOCK_STREAM, IPPROTO_TCP);
}

static __always_inline bool socket_dials(struct bpf_sock *sk, const struct frame *frame)
{
	struct address to;

	if ((__be16)sk->dst_port != frame->tuple.remote_port)
		return false;
	if (frame->v4)
		return sk->dst_ip4 == frame->tuple.remote.ip[3];
	to.ip[0] = sk->dst_ip6[0];
	barrier();
	to.ip[1] = sk->dst_ip6[1];
	barrier();
	to.ip[2] = sk->dst_ip6[2];
	barrier();
	to.ip[3] = sk->dst_ip6[3];
	barrier();
	return address_same(&to, &frame->tuple.remote);
}

static __always_inline bool socket_speaks(struct __sk_buff *skb, const struct frame *frame,
					  u64 cgroup, u32 level)
{
	struct bpf_sock *sk = skb->sk;
	u32 port;

	if (!sk)
		return false;
	port = sk->src_port;
	if (port != bpf_ntohs(frame->tuple.local_port) && (port || sk->state != BPF_TCP_CLOSE))
		return false;
	return socket_dials(sk, frame) && socket_is_tcp(skb, sk, cgroup, level);
}

/* The same for UDP. Where an unconnected socket may send to is noted at its first sendmsg(). */
static __always_inline bool socket_sends(struct __sk_buff *skb, const struct frame *frame,
					 u64 cgroup, u32 level)
{
	struct bpf_sock *sk = skb->sk, *full;
	struct datagram_key key = {};

	if (!sk || bpf_skb_ancestor_cgroup_id(skb, level) != cgroup)
		return false;
	full = bpf_sk_fullsock(sk);
	if (!socket_is(full, SOCK_DGRAM, IPPROTO_UDP) ||
	    full->src_port != bpf_ntohs(frame->tuple.local_port))
		return false;
	if (socket_dials(full, frame))
		return true;
	key.cookie = bpf_get_socket_cookie(skb);
	key.remote = frame->tuple.remote;
	key.port = frame->tuple.remote_port;
	return exchange_at(&key);
}

static __always_inline void lookup_tuple(const struct frame *frame, bool remote,
					 struct bpf_sock_tuple *tuple)
{
	if (frame->v4) {
		tuple->ipv4.daddr = frame->tuple.local.ip[3];
		tuple->ipv4.dport = frame->tuple.local_port;
		if (remote) {
			tuple->ipv4.saddr = frame->tuple.remote.ip[3];
			tuple->ipv4.sport = frame->tuple.remote_port;
		}
		return;
	}
	__builtin_memcpy(tuple->ipv6.daddr, &frame->tuple.local, 16);
	tuple->ipv6.dport = frame->tuple.local_port;
	if (remote) {
		__builtin_memcpy(tuple->ipv6.saddr, &frame->tuple.remote, 16);
		tuple->ipv6.sport = frame->tuple.remote_port;
	}
}

/*
 * Will mesh_ingress decide about it: is the receiver a socket that the pod itself has bound? For TCP
 * the listening socket is asked for, not one of an earlier connection between the same ports.
 */
static __always_inline bool socket_receives(struct __sk_buff *skb, const struct frame *frame,
					    u64 cgroup, s32 netns)
{
	bool tcp = frame->tuple.protocol == IPPROTO_TCP;
	struct bpf_sock_tuple tuple = {};
	u32 size = frame->v4 ? sizeof(tuple.ipv4) : sizeof(tuple.ipv6);
	struct bpf_sock *sk;
	u64 *owner;
	bool ours;

	lookup_tuple(frame, !tcp, &tuple);
	sk = tcp ? bpf_sk_lookup_tcp(skb, &tuple, size, netns, 0) :
		   bpf_sk_lookup_udp(skb, &tuple, size, netns, 0);
	if (!sk)
		return false;
	owner = receiver_of(sk);
	ours = owner && *owner == cgroup;
	bpf_sk_release(sk);
	return ours;
}

/*
 * Is there a socket in the pod whose answer this may be? The kernel answers for sockets that are
 * gone, or that it does not name: with a reset, from TIME_WAIT, with a SYN cookie. None of these has
 * a payload. (On interfaces with XDP or GRO a packet may have lost its socket.)
 */
static __always_inline bool socket_answers(struct __sk_buff *skb, const struct passage *passage)
{
	const struct frame *frame = &passage->frame;
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *sk;
	bool answers;

	if (frame->empty && frame->tcp_flags & TCP_FLAG_RST)
		return true;
	lookup_tuple(frame, true, &tuple);
	sk = bpf_skc_lookup_tcp(skb, &tuple,
				frame->v4 ? sizeof(tuple.ipv4) : sizeof(tuple.ipv6),
				passage->netns, 0);
	if (!sk)
		return false;
	answers = sk->state != BPF_TCP_LISTEN ||
		  (frame->empty && frame->tcp_flags & TCP_FLAG_SYN);
	bpf_sk_release(sk);
	return answers;
}

/* A raw or packet socket of a process of the pod, not the kernel and not somebody behind the pod. */
static __always_inline bool socket_is_pods(struct __sk_buff *skb, const struct passage *passage)
{
	return bpf_skb_ancestor_cgroup_id(skb, passage->level) == passage->cgroup;
}

/* -- what policy says -------------------------------------------------------------------------- */

/* For a connection that the pod began (`outbound`), or the other end. True if it may be. */
static __always_inline bool passage_allows(const struct settings *cfg,
					   const struct passage *passage, bool outbound,
					   struct peer *peer, struct decision *decision)
{
	const struct tuple *tuple = &passage->frame.tuple;
	u32 class = passage->pod.class4;	/* the same for both families here */
	struct endpoint at = {
		.address = tuple->remote,
		.port = tuple->remote_port,
		.protocol = tuple->protocol,
	};

	peer_find(&at, false, outbound, peer);
	if (!outbound) {
		policy_inbound(&passage->pod, peer, passage->frame.v4, tuple->protocol,
			       bpf_ntohs(tuple->local_port), decision);
		return verdict_lets_through(decision->verdict);
	}
	policy_outbound(&passage->pod, peer->class, peer->flags, passage->frame.v4,
			tuple->protocol, bpf_ntohs(tuple->remote_port), decision);
	return verdict_lets_through(decision->verdict) ||
	       (peer->identity == IDENTITY_WORLD &&
		policy_by_name(cfg, class, &at, &peer->class, decision));
}

static __always_inline int crossing_note(struct passage *passage, u8 direction, bool captured)
{
	struct crossing crossing = {
		.epoch = passage->epoch,
		.direction = direction,
		.captured = captured,
	};

	crossing_put(&passage->frame.tuple, &crossing);
	return 0;
}

static __always_inline void fragment_key_of(const struct frame *frame, struct fragment_key *key)
{
	key->source = frame->outbound ? frame->tuple.local : frame->tuple.remote;
	key->destination = frame->outbound ? frame->tuple.remote : frame->tuple.local;
	key->identification = frame->identification;
	key->protocol = frame->tuple.protocol;
}

static __always_inline bool fragment_follows(const struct frame *frame)
{
	struct fragment_key key = {};

	fragment_key_of(frame, &key);
	return fragment_known(&key);
}

static __always_inline void fragment_note(const struct frame *frame)
{
	struct fragment_key key = {};

	fragment_key_of(frame, &key);
	fragment_put(&key, bpf_ktime_get_ns());
}

/*
 * Does a packet that was forwarded say that it is the node's own? IPv4 does not let it in; IPv6 does,
 * and policy lets in whatever comes from the node.
 */
static __always_inline bool frame_feigns_node(struct __sk_buff *skb, const struct frame *frame)
{
	struct peer *said;

	if (frame->v4 || !skb->ingress_ifindex)
		return false;
	said = peer_at((struct address *)&frame->tuple.remote);
	return said && said->flags & END_LOCAL_NODE;
}

/* -- telling of it ----------------------------------------------------------------------------- */

/*
 * A refused packet: every one is counted, each attempt is told once. SYNs are told apart by their
 * sequence numbers, other packets by where they go and why they are refused.
 */
static __always_inline void frame_refused(const struct settings *cfg, const struct frame *frame,
					  const struct peer *local, const struct peer *remote,
					  const struct decision *decision, u64 cgroup, u32 index,
					  u8 hook)
{
	bool ports = frame->tuple.protocol == IPPROTO_TCP || frame->tuple.protocol == IPPROTO_UDP;
	bool syn = frame->tuple.protocol == IPPROTO_TCP && frame_begins(frame);
	__be16 local_port = ports ? frame->tuple.local_port : 0;
	__be16 remote_port = ports ? frame->tuple.remote_port : 0;
	struct refused_key key = {
		.remote = frame->tuple.remote,
		.remote_port = remote_port,
		.local_port = local_port,
		.sequence = syn ? frame->sequence :
			    index ^ frame->tuple.protocol << 24 ^ (u32)decision->reason << 16,
	};
	struct counters *counters;
	struct event *event;
	struct flow flow = {
		.started = bpf_ktime_get_ns(),
		.cgroup = cgroup,
		.dialled = frame->outbound ? frame->tuple.remote : frame->tuple.local,
		.dialled_port = frame->outbound ? remote_port : local_port,
		.actual = frame->tuple.remote,
		.actual_port = remote_port,
		.source = frame->outbound ? local->identity : remote->identity,
		.destination = frame->outbound ? remote->identity : local->identity,
		.rule = decision->rule,
		.protocol = frame->tuple.protocol,
		.direction = frame->outbound ? DIRECTION_OUTBOUND : DIRECTION_INBOUND,
		.verdict = VERDICT_DENY,
		.reason = decision->reason,
		.hook = hook,
	};
	bool again = refused_note(&key, flow.started);

	counters = flow_counters(&flow);
	if (counters) {
		__sync_fetch_and_add(&counters->refused_packets, 1);
		if (!again)
			__sync_fetch_and_add(&counters->denied, 1);
	}
	if (again)
		return;
	event = event_reserve();
	if (!event)
		return;
	flow_event(&flow, event, flow.started, 0, STATE_DENIED);
	event->local = frame->tuple.local;
	event->local_port = local_port;
	event_submit(event);
}
