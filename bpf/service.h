/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Service → slot table → backend. */

/* One of a service's backends, by weight: its id, or 0 when there is none. */
static __always_inline u32 service_draw(const struct service *service)
{
	struct slot_key key = {
		.service = service->id,
		.epoch = service->epoch,
		.slot = ((u64)bpf_get_prandom_u32() * service->slots) >> 32,
	};
	struct slot *slot = slot_at(&key);

	if (!slot)
		return 0;
	return bpf_get_prandom_u32() < slot->threshold ? slot->first : slot->second;
}

/* The backend for a new connection, and its id; NULL when the service has none. */
static __always_inline struct backend *service_pick(const struct service *service, u32 *id)
{
	if (!service->slots)
		return NULL;
	*id = service_draw(service);
	return *id ? backend_at(*id) : NULL;
}
