/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* getpeername(): applications see the address that they dialled. */

static __always_inline struct flow *translated_flow(struct bpf_sock_addr *ctx)
{
	struct flow *flow = socket_flow(bpf_get_socket_cookie(ctx));

	return flow && flow->flags & FLOW_TRANSLATED ? flow : NULL;
}

int mesh_getpeername4(struct bpf_sock_addr *ctx)
{
	struct flow *flow = translated_flow(ctx);

	if (flow) {
		ctx->user_ip4 = flow->dialled.ip[3];
		ctx->user_port = flow->dialled_port;
	}
	return 1;
}

int mesh_getpeername6(struct bpf_sock_addr *ctx)
{
	struct flow *flow = translated_flow(ctx);

	if (flow) {
		ctx->user_ip6[0] = flow->dialled.ip[0];
		ctx->user_ip6[1] = flow->dialled.ip[1];
		ctx->user_ip6[2] = flow->dialled.ip[2];
		ctx->user_ip6[3] = flow->dialled.ip[3];
		ctx->user_port = flow->dialled_port;
	}
	return 1;
}
