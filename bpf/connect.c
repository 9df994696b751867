/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * connect(): the application's side. Decide once per connection, then get out of the way.
 *
 * Stages return 0 to leave the destination alone, 1 when it was changed, or -errno to refuse; only
 * the entry points turn that into the kernel's codes.
 */

static __always_inline bool dials_proxy(const struct settings *cfg, const struct endpoint *to)
{
	if (to->protocol != IPPROTO_TCP || to->port != cfg->proxy_port)
		return false;
	return address_is_loopback(&to->address) ||
	       address_same(&to->address, &cfg->pod_proxy4) ||
	       address_same(&to->address, &cfg->pod_proxy6);
}

/* Where this workload reaches the node proxy; the address family stays the application's. */
static __always_inline void proxy_address(const struct settings *cfg, const struct workload *from,
					  struct endpoint *to)
{
	bool v4 = address_is4(&to->address);

	if (!(from->flags & END_HOST)) {
		to->address = v4 ? cfg->pod_proxy4 : cfg->pod_proxy6;
	} else if (v4) {
		address_from4(&to->address, bpf_htonl(0x7f000001));
	} else {
		to->address.ip[0] = 0;
		to->address.ip[1] = 0;
		to->address.ip[2] = 0;
		to->address.ip[3] = bpf_htonl(1);
	}
	to->port = cfg->proxy_port;
}

/*
 * Service → backend or proxy, then policy. Fills the flow; `to` becomes the actual destination. A
 * backend that the flow names already is kept.
 */
static __always_inline int outbound_decide(struct bpf_sock_addr *ctx, const struct settings *cfg,
					   const struct workload *from, struct endpoint *to,
					   struct flow *flow)
{
	bool v4 = address_is4(&to->address);
	struct service *service = service_at(to);
	struct decision decision = {};
	u32 to_flags = 0;
	u8 refusal;

	flow->source_class = v4 ? from->class4 : from->class6;
	if (service && service->action == SERVICE_REDIRECT) {
		flow->service = service->id;
		flow->path = PATH_PROXY;
		flow->destination_class = service->class;
		policy_outbound(from, service->class, service->flags, v4, to->protocol,
				bpf_ntohs(to->port), &decision);
		proxy_address(cfg, from, to);
	} else if (service) {
		struct backend *backend = flow->backend ? backend_at(flow->backend) :
							  service_pick(ctx, service, v4, flow);

		flow->service = service->id;
		if (!backend) {
			flow->reason = REASON_NO_BACKEND;
			return -ECONNREFUSED;
		}
		to->address = backend->address;
		to->port = backend->port;
		flow->destination = backend->identity;
		flow->destination_class = backend->class;
		flow->node = backend->node;
		to_flags = backend->flags;
		policy_outbound(from, backend->class, backend->flags, v4, to->protocol,
				bpf_ntohs(to->port), &decision);
	} else {
		struct peer peer = {};

		peer_find(to, from->flags & END_HOST, true, &peer);
		flow->destination = peer.identity;
		flow->destination_class = peer.class;
		flow->node = peer.node;
		to_flags = peer.flags;
		if (peer.flags & END_VIP) {
			flow->reason = REASON_SERVICE_PORT_UNKNOWN;
			return -ECONNREFUSED;
		}
		policy_outbound(from, peer.class, peer.flags, v4, to->protocol,
				bpf_ntohs(to->port), &decision);
		if (decision.verdict == VERDICT_DENY && peer.identity == IDENTITY_WORLD)
			policy_by_name(cfg, flow->source_class, to, &flow->destination_class,
				       &decision);
	}
	if (flow->path == PATH_DIRECT && decision.flags & DECISION_STRICT) {
		flow->flags |= FLOW_STRICT;
		identity_require(&decision, identity_provable(flow->node, to_flags, to->protocol));
	}
	workload_blocked(cfg, from, &to->address, &decision);
	flow->actual = to->address;
	flow->actual_port = to->port;
	flow->rule = decision.rule;
	flow->reason = decision.reason;
	if (!verdict_lets_through(decision.verdict))
		return -EPERM;
	if (service && service->limit) {
		refusal = limit_outbound(cfg, service->limit, flow);
		if (refusal) {
			flow->reason = refusal;
			return -ECONNREFUSED;
		}
	}
	flow->verdict = flow->path == PATH_PROXY ? VERDICT_REDIRECT : decision.verdict;
	if (!service)
		return 0;
	flow->flags |= FLOW_TRANSLATED;
	return 1;
}

static __always_inline void flow_begin(u32 epoch, const struct workload *from, u64 cgroup,
				       const struct endpoint *to, u8 hook, struct flow *flow)
{
	flow->started = bpf_ktime_get_ns();
	flow->cgroup = cgroup;
	flow->dialled = to->address;
	flow->dialled_port = to->port;
	flow->actual = to->address;
	flow->actual_port = to->port;
	flow->source = from->identity;
	flow->claim = from->claim;
	flow->epoch = epoch;
	flow->protocol = to->protocol;
	flow->direction = DIRECTION_OUTBOUND;
	flow->verdict = VERDICT_DENY;
	flow->hook = hook;
}

/* A pod talking to itself, or a host process to nobody we know: not ours. */
static __always_inline bool stays_inside(const struct workload *from, const struct endpoint *to)
{
	return !(from->flags & END_HOST) && address_is_loopback(&to->address);
}

static __always_inline int connect_track(u64 cookie, struct flow *flow)
{
	int error;

	if (flow->protocol == IPPROTO_UDP) {
		struct datagram_key key = {
			.cookie = cookie,
			.remote = flow->actual,
			.port = flow->actual_port,
		};

		exchange_begin(&key, flow);
	}
	error = socket_flow_new(cookie, flow);
	if (error == -EEXIST) {
		socket_forget(cookie);
		error = socket_flow_new(cookie, flow);
	}
	if (!error)
		return 0;
	loss(LOSS_FLOW);
	/* Untracked is uncounted, which losses say; but a redirect cannot do without. */
	return flow->path == PATH_PROXY || flow->flags & FLOW_TRANSLATED ? -ENOMEM : 0;
}

/*
 * A process of this node that belongs to no workload. It shares the node's address with workloads
 * of the host network, and other nodes go by the address; so what they would refuse is refused here.
 */
static __always_inline int unenrolled_stage(const struct settings *cfg, struct endpoint *to,
					    u8 hook)
{
	struct decision decision = {};
	struct workload node = {
		.identity = IDENTITY_NODE,
		.class4 = cfg->node_class4,
		.class6 = cfg->node_class6,
	};
	struct peer *peer = peer_at(&to->address);
	struct flow flow = {};

	if (dials_proxy(cfg, to))
		return -ECONNREFUSED;
	if (!peer || !(peer->flags & END_INGRESS) || peer->flags & (END_LOCAL | END_LOCAL_NODE))
		return 0;
	policy_outbound(&node, peer->class, peer->flags, address_is4(&to->address),
			to->protocol, bpf_ntohs(to->port), &decision);
	identity_require(&decision, false);
	if (verdict_lets_through(decision.verdict))
		return 0;
	flow_begin(cfg->policy_epoch, &node, 0, to, hook, &flow);
	flow.destination = peer->identity;
	flow.rule = decision.rule;
	flow.reason = decision.reason;
	flow_denied(&flow, 0);
	return -EPERM;
}

static __always_inline int connect_stage(struct bpf_sock_addr *ctx, struct endpoint *to)
{
	struct settings *cfg = settings_get();
	struct flow flow = {};
	struct workload *from;
	u64 cgroup, cookie;
	u32 epoch;
	int result;

	if (!cfg)
		return 0;
	epoch = policy_now(cfg);
	from = workload_current(cfg, &cgroup);
	if (to->protocol != IPPROTO_TCP && to->protocol != IPPROTO_UDP)
		return 0;
	if (!from)
		return unenrolled_stage(cfg, to, HOOK_CONNECT);
	cookie = bpf_get_socket_cookie(ctx);
	flow_begin(epoch, from, cgroup, to, HOOK_CONNECT, &flow);
	if (dials_proxy(cfg, to)) {
		flow.reason = REASON_PROXY_DIRECT;
		result = -EPERM;
	} else if (stays_inside(from, to)) {
		socket_forget(cookie);	/* the socket may have been connected before */
		return 0;
	} else {
		result = outbound_decide(ctx, cfg, from, to, &flow);
	}
	if (result >= 0) {
		int untracked = connect_track(cookie, &flow);

		if (untracked) {
			limit_give_back(&flow);
			flow.reason = REASON_STATE_FULL;
			flow.verdict = VERDICT_DENY;
			result = untracked;
		}
	}
	if (result < 0) {
		socket_forget(cookie);
		/* Resolvers connect UDP sockets to whatever they found, to order it; they send nothing. */
		if (flow.protocol != IPPROTO_UDP || flow.reason != REASON_SERVICE_PORT_UNKNOWN)
			flow_denied(&flow, cookie);
	}
	return result;
}

/* 1 lets the call go on; 0 fails it with EPERM or, where the kernel can (5.18), what we set. */
static __always_inline int sock_addr_answer(int result)
{
	if (result >= 0)
		return 1;
	if (HAVE_SET_RETVAL)
		bpf_set_retval(result);
	return 0;
}

int mesh_connect4(struct bpf_sock_addr *ctx)
{
	struct endpoint to = {};
	int result;

	address_from4(&to.address, ctx->user_ip4);
	to.port = ctx->user_port;
	to.protocol = ctx->protocol;
	result = connect_stage(ctx, &to);
	if (result > 0) {
		ctx->user_ip4 = to.address.ip[3];
		ctx->user_port = to.port;
	}
	return sock_addr_answer(result);
}

int mesh_connect6(struct bpf_sock_addr *ctx)
{
	struct endpoint to = {};
	int result;

	to.address.ip[0] = ctx->user_ip6[0];
	to.address.ip[1] = ctx->user_ip6[1];
	to.address.ip[2] = ctx->user_ip6[2];
	to.address.ip[3] = ctx->user_ip6[3];
	to.port = ctx->user_port;
	to.protocol = ctx->protocol;
	result = connect_stage(ctx, &to);
	if (result > 0) {
		ctx->user_ip6[0] = to.address.ip[0];
		ctx->user_ip6[1] = to.address.ip[1];
		ctx->user_ip6[2] = to.address.ip[2];
		ctx->user_ip6[3] = to.address.ip[3];
		ctx->user_port = to.port;
	}
	return sock_addr_answer(result);
}
