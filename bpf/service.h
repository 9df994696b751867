/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Service → slot table → backend. */

/* One of a service's backends, by weight; -ENOENT when it has none. */
static __always_inline int service_pick(const struct service *service, struct backend *out)
{
	if (!service->slots)
		return -ENOENT;

	struct slot_key key = {
		.service = service->id,
		.epoch = service->epoch,
		.slot = ((u64)bpf_get_prandom_u32() * service->slots) >> 32,
	};
	struct slot *slot = slot_at(&key);

	if (!slot)
		return -ENOENT;
	*out = bpf_get_prandom_u32() < slot->threshold ? slot->first : slot->second;
	return 0;
}
