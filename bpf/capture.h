/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whose socket is it? A workload's cgroup may hold further cgroups, so the ancestors at the levels
 * where workloads live are asked, not the innermost one.
 */

/*
 * Whose policy an answer is. To be taken before the first look-up for it, the workload's included: so
 * an answer of before a change is never kept as one of after.
 */
static __always_inline u32 policy_now(const struct settings *cfg)
{
	return *(volatile const __u32 *)&cfg->policy_epoch;
}

/* Its policy class when it speaks from, or is reached at, this address. */
static __always_inline u32 workload_class(const struct workload *workload,
					  const struct address *address)
{
	return address_is4(address) ? workload->class4 : workload->class6;
}

/* The workload of the calling process; for hooks that run in its context. */
static __always_inline struct workload *workload_current(const struct settings *cfg, u64 *cgroup)
{
	struct workload *found;

#pragma unroll
	for (int i = 0; i < 4; i++) {
		if (!cfg->levels[i])
			break;
		*cgroup = bpf_get_current_ancestor_cgroup_id(cfg->levels[i]);
		if (!*cgroup)
			continue;
		found = workload_at(*cgroup);
		if (found)
			return found;
	}
	*cgroup = 0;
	return NULL;
}

/* The workload that owns the socket of a packet. */
static __always_inline struct workload *workload_of_packet(const struct settings *cfg,
							   struct __sk_buff *skb, u64 *cgroup)
{
	struct workload *found;

#pragma unroll
	for (int i = 0; i < 4; i++) {
		if (!cfg->levels[i])
			break;
		*cgroup = bpf_skb_ancestor_cgroup_id(skb, cfg->levels[i]);
		if (!*cgroup)
			continue;
		found = workload_at(*cgroup);
		if (found)
			return found;
	}
	*cgroup = 0;
	return NULL;
}

/*
 * Who is at the other end: what the agent knows of an address, or "outside the mesh".
 *
 * A port tells host-network workloads apart only where it was dialled: anyone can choose a source
 * port, so `by_port` is for destinations.
 */
static __always_inline void peer_find(struct endpoint *at, bool from_host, bool by_port,
				      struct peer *out)
{
	struct peer *found;

	if (from_host && address_is_loopback(&at->address)) {
		struct endpoint local = {};	/* the node's own network namespace: by port */

		local.port = at->port;
		local.protocol = at->protocol;
		found = by_port ? listener_at(&local) : NULL;
		if (found) {
			*out = *found;
			return;
		}
		out->identity = IDENTITY_NODE;
		out->class = 0;
		out->flags = END_LOCAL_NODE;
		out->node = 0;
		return;
	}
	found = peer_at(&at->address);
	if (found) {
		*out = *found;
		if (by_port && out->flags & END_SHARED) {
			found = listener_at(at);
			if (found)
				*out = *found;
		}
		return;
	}
	struct block_key key = { .bits = 128, .address = at->address };
	u32 *class = block_of(&key);

	out->identity = IDENTITY_WORLD;
	out->class = class ? *class : 0;
	out->flags = 0;
	out->node = 0;
}
