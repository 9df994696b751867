/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which backend a new connection gets: the client's own, or one by weight; one that is well. */

/*
 * The backend for a new connection of the calling process, noted in its flow; NULL when the service
 * has none.
 */
static __always_inline struct backend *service_pick(struct bpf_sock_addr *ctx,
						    const struct service *service, bool v4,
						    struct flow *flow)
{
	struct affinity_key client = {};
	u32 id = 0;

	if (!service->slots)
		return NULL;
	if (service->affinity) {
		affinity_client(ctx, service, v4, &client);
		id = affinity_backend(service, &client, flow->started);
	}
	if (!id)
		id = service_draw(service);
	if (service->eject_after && ejection_alert(service->id, flow->started))
		id = ejection_avoid(service, id, flow->source, flow->started, v4);
	if (service->affinity && id)
		id = affinity_keep(&client, id, flow->started);
	flow->backend = id;
	return id ? backend_at(id) : NULL;
}
