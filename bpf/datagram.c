/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Unconnected UDP: sendmsg() decides at the first datagram to a destination and remembers; recvmsg()
 * and getpeername() show the address that the application dialled.
 */

/* The backend that this socket was given for `to` before, while the service still has it. */
static __always_inline struct backend *session_resume(u64 cookie, struct endpoint *to, u32 *id)
{
	struct datagram_key key = { .cookie = cookie, .remote = to->address, .port = to->port };
	struct service *service = service_at(to);
	struct session *found;

	if (!service || service->action != SERVICE_LB)
		return NULL;
	found = session_at(&key);
	if (!found || found->service != service->id)
		return NULL;
	*id = found->backend;
	return backend_at(found->backend);
}

static __always_inline void session_remember(u64 cookie, const struct flow *flow)
{
	struct datagram_key key = {
		.cookie = cookie,
		.remote = flow->dialled,
		.port = flow->dialled_port,
	};
	struct session session = { .service = flow->service, .backend = flow->backend };

	session_put(&key, &session);
}

static __always_inline int sendmsg_stage(struct bpf_sock_addr *ctx, struct endpoint *to)
{
	struct settings *cfg = settings_get();
	struct datagram_key key = {};
	struct backend *backend;
	struct workload *from;
	struct flow flow = {}, *known;
	u32 resumed = 0, epoch;
	u64 cgroup;
	int result;

	if (!cfg)
		return 0;
	epoch = policy_now(cfg);
	from = workload_current(cfg, &cgroup);
	if (!from)
		return unenrolled_stage(cfg, to, HOOK_SENDMSG);
	if (stays_inside(from, to))
		return 0;
	key.cookie = bpf_get_socket_cookie(ctx);
	backend = session_resume(key.cookie, to, &resumed);
	key.remote = backend ? backend->address : to->address;
	key.port = backend ? backend->port : to->port;
	known = exchange_at(&key);
	if (known) {
		if (exchange_check(cfg, epoch, from, &key, known, HOOK_SENDMSG))
			return -EPERM;
		to->address = key.remote;
		to->port = key.port;
		return backend ? 1 : 0;
	}
	flow_begin(epoch, from, cgroup, to, HOOK_SENDMSG, &flow);
	flow.backend = backend ? resumed : 0;
	result = outbound_decide(ctx, cfg, from, to, &flow);
	if (result < 0) {
		flow_denied(&flow, key.cookie);
		return result;
	}
	key.remote = to->address;
	key.port = to->port;
	exchange_begin(&key, &flow);
	socket_flow_put(key.cookie, &flow);	/* so that its end is seen when the socket closes */
	if (result > 0)
		session_remember(key.cookie, &flow);
	return result;
}

int mesh_sendmsg4(struct bpf_sock_addr *ctx)
{
	struct endpoint to = {};
	int result;

	address_from4(&to.address, ctx->user_ip4);
	to.port = ctx->user_port;
	to.protocol = IPPROTO_UDP;
	result = sendmsg_stage(ctx, &to);
	if (result > 0) {
		ctx->user_ip4 = to.address.ip[3];
		ctx->user_port = to.port;
	}
	return sock_addr_answer(result);
}

int mesh_sendmsg6(struct bpf_sock_addr *ctx)
{
	struct endpoint to = {};
	int result;

	to.address.ip[0] = ctx->user_ip6[0];
	to.address.ip[1] = ctx->user_ip6[1];
	to.address.ip[2] = ctx->user_ip6[2];
	to.address.ip[3] = ctx->user_ip6[3];
	to.port = ctx->user_port;
	to.protocol = IPPROTO_UDP;
	result = sendmsg_stage(ctx, &to);
	if (result > 0) {
		ctx->user_ip6[0] = to.address.ip[0];
		ctx->user_ip6[1] = to.address.ip[1];
		ctx->user_ip6[2] = to.address.ip[2];
		ctx->user_ip6[3] = to.address.ip[3];
		ctx->user_port = to.port;
	}
	return sock_addr_answer(result);
}

/* What the application dialled when it now hears from `from`; false if nothing was translated. */
static __always_inline bool dialled_for(struct bpf_sock_addr *ctx, struct endpoint *from)
{
	struct datagram_key key = {};
	struct flow *flow;

	key.cookie = bpf_get_socket_cookie(ctx);
	key.remote = from->address;
	key.port = from->port;
	flow = exchange_at(&key);
	if (!flow || !(flow->flags & FLOW_TRANSLATED))
		return false;
	from->address = flow->dialled;
	from->port = flow->dialled_port;
	return true;
}

int mesh_recvmsg4(struct bpf_sock_addr *ctx)
{
	struct endpoint from = {};

	address_from4(&from.address, ctx->user_ip4);
	from.port = ctx->user_port;
	if (dialled_for(ctx, &from)) {
		ctx->user_ip4 = from.address.ip[3];
		ctx->user_port = from.port;
	}
	return 1;
}

int mesh_recvmsg6(struct bpf_sock_addr *ctx)
{
	struct endpoint from = {};

	from.address.ip[0] = ctx->user_ip6[0];
	from.address.ip[1] = ctx->user_ip6[1];
	from.address.ip[2] = ctx->user_ip6[2];
	from.address.ip[3] = ctx->user_ip6[3];
	from.port = ctx->user_port;
	if (dialled_for(ctx, &from)) {
		ctx->user_ip6[0] = from.address.ip[0];
		ctx->user_ip6[1] = from.address.ip[1];
		ctx->user_ip6[2] = from.address.ip[2];
		ctx->user_ip6[3] = from.address.ip[3];
		ctx->user_port = from.port;
	}
	return 1;
}
