/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Session affinity: a client's next connection goes where its last one went, until it has made none
 * for a while. Kubernetes means the client's address; the network namespace stands for it, so that
 * a pod is one client, and so are all host-network workloads of a node together.
 */

static __always_inline void affinity_client(struct bpf_sock_addr *ctx,
					    const struct service *service, bool v4,
					    struct affinity_key *key)
{
	key->client = bpf_get_netns_cookie(ctx);
	key->service = service->id;
	key->family = v4 ? AF_INET : AF_INET6;
}

/* Where the client's last connection went, while a new one may go there too; otherwise 0. */
static __always_inline u32 affinity_backend(const struct service *service,
					    struct affinity_key *key, u64 now)
{
	struct affinity *held = affinity_at(key);
	struct backend *backend;

	if (!held || now - held->used > service->affinity * NS_PER_SECOND)
		return 0;
	backend = backend_at(held->backend);
	return backend && !(backend->flags & END_RESTS) ? held->backend : 0;
}

/*
 * Remember where the client goes now. Of several connections that begin a new affinity at the same
 * time the first decides; the backend that it has, and that this connection is to take, is returned.
 */
static __always_inline u32 affinity_keep(struct affinity_key *key, u32 backend, u64 now)
{
	struct affinity fresh = { .used = now, .backend = backend };
	struct affinity *held = affinity_at(key);

	if (!held) {
		if (!affinity_new(key, &fresh))
			return backend;
		held = affinity_at(key);
		return held ? held->backend : backend;
	}
	if (held->backend == backend)
		held->used = now;
	else	/* never in place: an entry of this map may become another client's at any time */
		affinity_put(key, &fresh);
	return backend;
}
