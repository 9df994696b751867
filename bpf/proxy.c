/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Hooks on the node proxy's own cgroup: Envoy learns from the kernel where a redirected connection
 * was going (SO_ORIGINAL_DST) and whose it is (the peer address that accept() shows).
 */

#define SO_ORIGINAL_DST	80	/* linux/netfilter_ipv4.h; the same number at level SOL_IPV6 */

/* In softirq, before accept(): the origin moves from the tuple to the accepted socket. */
int proxy_sockops(struct bpf_sock_ops *ops)
{
	struct origin *waiting, *origin;
	struct inflight_key key = {};
	struct bpf_sock *sk;

	if (ops->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		return 1;
	sk = ops->sk;
	if (!sk)
		return 1;
	remote_address(ops, &key.address);
	key.port = remote_port(ops);
	key.netns = inflight_netns(ops, &key.address);
	waiting = inflight_at(&key);
	if (!waiting) {
		loss(LOSS_ORIGIN);
		return 1;
	}
	origin = origin_make(sk);
	if (!origin) {
		loss(LOSS_ORIGIN);
		return 1;
	}
	*origin = *waiting;
	inflight_drop(&key);
	return 1;
}

static __always_inline void answer4(struct bpf_sockopt *ctx, const struct origin *origin)
{
	u8 *out = ctx->optval, *end = ctx->optval_end;

	if (out + 16 > end)
		return;
	*(u16 *)out = AF_INET;
	*(__be16 *)(out + 2) = origin->port;
	*(__be32 *)(out + 4) = origin->address.ip[3];
	*(u64 *)(out + 8) = 0;
	ctx->optlen = 16;
	barrier();
	ctx->retval = 0;
}

static __always_inline void answer6(struct bpf_sockopt *ctx, const struct origin *origin)
{
	u8 *out = ctx->optval, *end = ctx->optval_end;

	if (out + 28 > end)
		return;
	*(u16 *)out = AF_INET6;
	*(__be16 *)(out + 2) = origin->port;
	*(u32 *)(out + 4) = 0;
	*(__be32 *)(out + 8) = origin->address.ip[0];
	*(__be32 *)(out + 12) = origin->address.ip[1];
	*(__be32 *)(out + 16) = origin->address.ip[2];
	*(__be32 *)(out + 20) = origin->address.ip[3];
	*(u32 *)(out + 24) = 0;
	ctx->optlen = 28;
	barrier();
	ctx->retval = 0;
}

int proxy_getsockopt(struct bpf_sockopt *ctx)
{
	struct origin *origin;
	struct bpf_sock *sk;

	if (ctx->optname != SO_ORIGINAL_DST ||
	    (ctx->level != SOL_IP && ctx->level != SOL_IPV6)) {
		if (ctx->optlen > 4096)		/* longer than the kernel lets a program see */
			ctx->optlen = 0;
		return 1;
	}
	sk = ctx->sk;
	if (!sk)
		return 1;
	origin = origin_of(sk);
	if (!origin)
		return 1;
	if (ctx->level == SOL_IP && address_is4(&origin->address))
		answer4(ctx, origin);
	else if (ctx->level == SOL_IPV6)
		answer6(ctx, origin);
	return 1;
}

/* 240.x.y.z: the caller's 28-bit identity (meshapi/nodecontract.py). */
int proxy_getpeername4(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct origin *origin;

	if (!sk)
		return 1;
	origin = origin_of(sk);
	if (origin && origin->identity)
		ctx->user_ip4 = bpf_htonl(0xf0000000 | (origin->identity & 0x0fffffff));
	return 1;
}

/* fd6d:6573:6800::identity */
int proxy_getpeername6(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct origin *origin;

	if (!sk)
		return 1;
	origin = origin_of(sk);
	if (!origin || !origin->identity)
		return 1;
	ctx->user_ip6[0] = bpf_htonl(0xfd6d6573);
	ctx->user_ip6[1] = bpf_htonl(0x68000000);
	ctx->user_ip6[2] = 0;
	ctx->user_ip6[3] = bpf_htonl(origin->identity);
	return 1;
}
