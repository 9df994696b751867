/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A TCP connection's life. Called at its few turning points, never per packet.
 *
 * The verifier wants reads of ctx addresses kept apart, hence the barriers.
 */

static __always_inline void local_address(struct bpf_sock_ops *ops, struct address *out)
{
	if (ops->family == AF_INET) {
		address_from4(out, ops->local_ip4);
		return;
	}
	out->ip[0] = ops->local_ip6[0];
	barrier();
	out->ip[1] = ops->local_ip6[1];
	barrier();
	out->ip[2] = ops->local_ip6[2];
	barrier();
	out->ip[3] = ops->local_ip6[3];
	barrier();
}

static __always_inline void remote_address(struct bpf_sock_ops *ops, struct address *out)
{
	if (ops->family == AF_INET) {
		address_from4(out, ops->remote_ip4);
		return;
	}
	out->ip[0] = ops->remote_ip6[0];
	barrier();
	out->ip[1] = ops->remote_ip6[1];
	barrier();
	out->ip[2] = ops->remote_ip6[2];
	barrier();
	out->ip[3] = ops->remote_ip6[3];
	barrier();
}

/* remote_port is 32 bits with the port in network order in the upper half (kernel 4.13 on). */
static __always_inline __be16 remote_port(struct bpf_sock_ops *ops)
{
	return bpf_htons((u16)bpf_ntohl(ops->remote_port));
}

/*
 * A loopback address is another one in every network namespace, so the namespace belongs to the key,
 * where the kernel can tell it (5.15). Where it cannot, tcp_connecting() keeps the others out.
 */
static __always_inline u64 inflight_netns(struct bpf_sock_ops *ops, const struct address *address)
{
	if (HAVE_NETNS_COOKIE && address_is_loopback(address))
		return bpf_get_netns_cookie(ops);
	return 0;
}

/* The key under which the proxy's side finds this connection: its source. */
static __always_inline void inflight_key_local(struct bpf_sock_ops *ops, struct inflight_key *key)
{
	local_address(ops, &key->address);
	key->port = bpf_htons((u16)ops->local_port);
	key->netns = inflight_netns(ops, &key->address);
}

/* Only the node's own processes reach the proxy on loopback, and they dial it there. */
static __always_inline bool inflight_possible(const struct inflight_key *key,
					      const struct flow *flow)
{
	return address_is_loopback(&key->address) == address_is_loopback(&flow->actual);
}

/* The SYN is to say who calls: ask for its options to be written, or vouch for it on this node. */
static __always_inline void tcp_identify(struct bpf_sock_ops *ops, const struct flow *flow)
{
	u32 flags = BPF_SOCK_OPS_STATE_CB_FLAG;

	if (!flow) {
		identity_done(ops);	/* of an earlier connect() of this socket */
		return;
	}
	if (sending_key(flow->node)) {
		flags |= BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG;
	} else if (flow->flags & FLOW_STRICT) {
		struct accepting_key key = {};

		local_address(ops, &key.remote);
		remote_address(ops, &key.local);
		key.remote_port = bpf_htons((u16)ops->local_port);
		key.local_port = remote_port(ops);
		vouch(&key);
	}
	bpf_sock_ops_cb_flags_set(ops, flags);
}

static __always_inline bool tcp_syn_leaves(struct bpf_sock_ops *ops)
{
	return (ops->skb_tcp_flags & (TCP_FLAG_SYN | TCP_FLAG_ACK)) == TCP_FLAG_SYN;
}

/* A SYN is about to leave, for the first time or again: room has been kept for the option. */
static __always_inline void tcp_claim(struct bpf_sock_ops *ops)
{
	struct flow *flow = socket_flow(bpf_get_socket_cookie(ops));
	struct identity_tuple tuple = {};

	if (!flow)
		return;
	local_address(ops, &tuple.source);
	remote_address(ops, &tuple.destination);
	if (!identity_write(ops, flow, &tuple))
		flow->flags |= FLOW_AUTHENTICATED;
}

/* connect() has chosen the source port; the SYN has not left yet. */
static __always_inline void tcp_connecting(struct bpf_sock_ops *ops, const struct settings *cfg)
{
	struct flow *flow = socket_flow(bpf_get_socket_cookie(ops));

	if (cfg->flags & SETTINGS_L7) {
		struct inflight_key key = {};

		inflight_key_local(ops, &key);
		if (flow && flow->path == PATH_PROXY) {
			struct origin origin = {
				.address = flow->dialled,
				.port = flow->dialled_port,
				.identity = flow->source,
			};

			if (!inflight_possible(&key, flow) || inflight_put(&key, &origin))
				loss(LOSS_ORIGIN);
		} else if (remote_port(ops) == cfg->proxy_port) {
			inflight_drop(&key);	/* nobody inherits an older caller's identity */
		}
	}
	tcp_identify(ops, flow);
}

static __always_inline void tcp_connected(struct bpf_sock_ops *ops)
{
	struct flow *flow = socket_flow(bpf_get_socket_cookie(ops));

	if (!flow)
		return;
	flow->established = bpf_ktime_get_ns();
	if (flow->backend)
		ejection_succeeded(flow, flow->established);
	flow_opened(flow);
}

/* accept(): what ingress.c found out at the SYN becomes this connection's flow. */
static __always_inline void tcp_accepted(struct bpf_sock_ops *ops)
{
	struct accepting_key key = {};
	struct accepting *known;
	struct flow flow = {};

	remote_address(ops, &key.remote);
	local_address(ops, &key.local);
	key.remote_port = remote_port(ops);
	key.local_port = bpf_htons((u16)ops->local_port);
	known = accepting_at(&key);
	if (!known)
		return;
	if (socket_flow(bpf_get_socket_cookie(ops))) {	/* both ends dialled: what it is stays */
		tcp_connected(ops);
		return;
	}
	flow.started = bpf_ktime_get_ns();
	flow.established = flow.started;
	flow.cgroup = known->cgroup;
	flow.dialled = key.local;
	flow.dialled_port = key.local_port;
	flow.actual = key.remote;
	flow.actual_port = key.remote_port;
	flow.source = known->source;
	flow.destination = known->destination;
	flow.source_class = known->source_class;
	flow.destination_class = known->destination_class;
	flow.rule = known->rule;
	flow.protocol = IPPROTO_TCP;
	flow.direction = DIRECTION_INBOUND;
	flow.verdict = known->verdict;
	flow.reason = known->reason;
	flow.path = known->path;
	flow.hook = HOOK_INGRESS;
	flow.flags = known->flags;
	flow.claim = known->claim;
	if (known->limited)
		limit_established(&key, &flow);
	if (socket_flow_put(bpf_get_socket_cookie(ops), &flow)) {
		limit_give_back(&flow);
		loss(LOSS_FLOW);
		return;
	}
	flow_opened(&flow);
	bpf_sock_ops_cb_flags_set(ops, BPF_SOCK_OPS_STATE_CB_FLAG);
}

/*
 * Payload bytes. The kernel counts sequence numbers: bytes_acked holds the SYN that we sent and our
 * FIN once it was acknowledged, bytes_received holds the peer's FIN. The state that the connection
 * was closed in says which of them there were; in FIN_WAIT2 the peer's FIN shows as an advance since
 * that state began. (A half-closed connection that is reset after more data is off by one byte.)
 */
static __always_inline void tcp_bytes(struct bpf_tcp_sock *tcp, u32 closed_in, struct flow *flow)
{
	u64 fin_wait2_received = flow->received;
	bool our_fin = closed_in == BPF_TCP_FIN_WAIT2 ||
		       ((closed_in == BPF_TCP_LAST_ACK || closed_in == BPF_TCP_CLOSING) &&
			tcp->snd_una == tcp->snd_nxt);
	bool their_fin = closed_in == BPF_TCP_CLOSE_WAIT || closed_in == BPF_TCP_LAST_ACK ||
			 closed_in == BPF_TCP_CLOSING ||
			 (closed_in == BPF_TCP_FIN_WAIT2 &&
			  tcp->bytes_received > fin_wait2_received);
	u64 not_payload = our_fin + (flow->established && flow->direction == DIRECTION_OUTBOUND);

	flow->sent = tcp->bytes_acked > not_payload ? tcp->bytes_acked - not_payload : 0;
	flow->received = tcp->bytes_received - (their_fin && tcp->bytes_received);
}

static __always_inline void tcp_fin_acknowledged(struct bpf_sock_ops *ops)
{
	struct flow *flow = socket_flow(bpf_get_socket_cookie(ops));
	struct bpf_tcp_sock *tcp;
	struct bpf_sock *sk;

	if (!flow)
		return;
	sk = ops->sk;
	if (!sk)
		return;
	tcp = bpf_tcp_sock(sk);
	if (tcp)
		flow->received = tcp->bytes_received;
}

/* What became of a connection: counted, and told. */
static __always_inline void tcp_tell(struct bpf_sock_ops *ops, struct flow *flow, u64 cookie)
{
	u64 now = bpf_ktime_get_ns();
	struct bpf_tcp_sock *tcp;
	struct counters *counters;
	struct event *event;
	struct bpf_sock *sk;

	sk = ops->sk;
	if (!sk)
		return;
	tcp = bpf_tcp_sock(sk);
	if (!tcp)
		return;
	tcp_bytes(tcp, ops->args[0], flow);
	counters = flow_counters(flow);
	if (counters) {
		__sync_fetch_and_add(&counters->sent, flow->sent);
		__sync_fetch_and_add(&counters->received, flow->received);
		__sync_fetch_and_add(&counters->retransmits, tcp->total_retrans);
		__sync_fetch_and_add(flow->established ? &counters->closed : &counters->failed, 1);
	}
	event = event_reserve();
	if (!event)
		return;
	flow_event(flow, event, now, cookie,
		   flow->established ? STATE_CLOSED : STATE_FAILED);
	if (flow->established && flow->direction == DIRECTION_OUTBOUND)
		event->connect = flow->established - flow->started;
	event->retransmits = tcp->total_retrans;
	event->round_trip = tcp->srtt_us >> 3;
	local_address(ops, &event->local);
	event->local_port = bpf_htons((u16)ops->local_port);
	event_submit(event);
}

static __always_inline void tcp_closed(struct bpf_sock_ops *ops)
{
	u64 cookie = bpf_get_socket_cookie(ops);
	struct flow *flow = socket_flow(cookie);

	if (!flow)
		return;
	if (flow->path == PATH_PROXY && flow->direction == DIRECTION_OUTBOUND) {
		struct inflight_key key = {};

		inflight_key_local(ops, &key);
		inflight_drop(&key);
	}
	if (flow->backend && !flow->established)
		ejection_failed(flow);
	limit_give_back(flow);
	tcp_tell(ops, flow, cookie);
	socket_flow_drop(cookie);
}

int mesh_sockops(struct bpf_sock_ops *ops)
{
	struct settings *cfg;

	switch (ops->op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		cfg = settings_get();
		if (cfg)
			tcp_connecting(ops, cfg);
		break;
	case BPF_SOCK_OPS_HDR_OPT_LEN_CB:
		if (tcp_syn_leaves(ops))
			bpf_reserve_hdr_opt(ops, sizeof(struct identity_option), 0);
		break;
	case BPF_SOCK_OPS_WRITE_HDR_OPT_CB:
		if (tcp_syn_leaves(ops))
			tcp_claim(ops);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		identity_done(ops);
		tcp_connected(ops);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		identity_done(ops);	/* both ends may have sent a SYN */
		tcp_accepted(ops);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		if (ops->args[1] == BPF_TCP_FIN_WAIT2)
			tcp_fin_acknowledged(ops);
		else if (ops->args[1] == BPF_TCP_CLOSE)
			tcp_closed(ops);
		break;
	}
	return 1;
}

/*
 * close() of a socket that sockops does not see: UDP, TCP that never left, and TCP that was open
 * before its workload was enrolled (its record is the agent's, nodeagent/established/strangers.py).
 */
int mesh_release(struct bpf_sock *sk)
{
	u32 state = sk->state;	/* before the flow, which sockops drops on the way to CLOSE */
	u64 cookie = bpf_get_socket_cookie(sk);
	struct flow *found = socket_flow(cookie);
	struct flow flow;

	if (!found)
		return 1;
	if (found->protocol == IPPROTO_UDP) {
		struct datagram_key key = {
			.cookie = cookie,
			.remote = found->actual,
			.port = found->actual_port,
		};
		struct flow *exchange = exchange_at(&key);

		if (exchange) {
			flow = *exchange;
			datagram_flow_drop(&key);
			flow_released(&flow, cookie, STATE_CLOSED);
		}
		socket_flow_drop(cookie);
	} else if (found->reason == REASON_OPEN_BEFORE || state == BPF_TCP_CLOSE) {
		flow = *found;
		socket_flow_drop(cookie);
		limit_give_back(&flow);
		flow_released(&flow, cookie,
			      flow.reason == REASON_OPEN_BEFORE ? STATE_CLOSED : STATE_FAILED);
	} else if (state == BPF_TCP_SYN_SENT && found->backend &&
		   bpf_ktime_get_ns() - found->started < EJECTION_PATIENCE) {
		found->backend = 0;	/* nobody can be blamed for that yet: see ejection.h */
	}
	return 1;
}
