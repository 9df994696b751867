/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Service → slot table → one of its backends, by weight. */

/* The id of a backend, or 0 when there is none. */
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
