/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Passive health: a backend that refuses or ignores connections is out for a while.
 *
 * Nothing here runs while all is well but a look at the service's alert, one word that says until
 * when there is something to know. A backend whose time is over gets one connection as a probe and
 * stays out for everybody else until that has come about.
 *
 * Failures of one identity are held against the backend for that identity alone, until a second one
 * fails too: a server's node may have refused the first by its own policy, in silence.
 */

#define EJECTION_MEMORY		(300 * NS_PER_SECOND)	/* failures further apart have nothing in common */
#define EJECTION_PATIENCE	(NS_PER_SECOND / 4)	/* for an answer, if the application gives up */
#define EJECTION_LONGEST	10			/* times a service's eject_seconds */
#define EJECTION_DRAWS		4
#define EJECTION_ROWS		16

#define BACKEND_IN		0
#define BACKEND_OUT		1
#define BACKEND_DUE		2	/* it was out, and its time is over */

static __always_inline bool ejection_alert(u32 service, u64 now)
{
	u64 *until = alert_of(service);

	return until && *until > now;
}

static __always_inline void ejection_raise(u32 service, u64 until)
{
	u64 *alert = alert_of(service);

	if (alert && *alert < until)
		*alert = until;
}

/* How a backend stands for connections of an identity. */
static __always_inline u32 ejection_state(u32 backend, u32 who, u64 now)
{
	struct outlier *outlier = outlier_at(backend);

	if (!outlier || !outlier->until || (outlier->who && outlier->who != who))
		return BACKEND_IN;
	return outlier->until > now ? BACKEND_OUT : BACKEND_DUE;
}

static __always_inline void ejection_key_make(const struct service *service, u32 family, u64 ends,
					      struct ejection_key *key)
{
	key->service = service->id;
	key->family = family;
	key->ends = ends / (service->eject_seconds * NS_PER_SECOND);
}

/* One backend more is out until then; false if that would be too many at a time. */
static __always_inline bool ejection_count(const struct service *service, u32 family, u64 until,
					   u64 now)
{
	struct ejection_key key = {};
	u32 *ending, *others, running = 0;

	ejection_key_make(service, family, until, &key);
	ending = ejections_make(&key);
	if (!ending)
		return false;
	__sync_fetch_and_add(ending, 1);
	ejection_key_make(service, family, now, &key);
#pragma clang loop unroll(disable)
	for (int i = 0; i <= EJECTION_LONGEST; i++) {
		others = ejections_at(&key);
		if (others)
			running += *others;
		key.ends++;
	}
	if (running <= service->eject_most)
		return true;
	__sync_fetch_and_add(ending, -1);
	return false;
}

/* One backend less is out until then. */
static __always_inline void ejection_uncount(const struct service *service, u32 family, u64 until)
{
	struct ejection_key key = {};
	u32 *ending;

	ejection_key_make(service, family, until, &key);
	ending = ejections_at(&key);
	if (ending && *ending)
		__sync_fetch_and_add(ending, -1);
}

static __always_inline void ejection_eject(const struct service *service, u32 family,
					   struct outlier *outlier, u64 now)
{
	u32 times = outlier->times < EJECTION_LONGEST ? outlier->times + 1 : EJECTION_LONGEST;
	u64 until = now + times * service->eject_seconds * NS_PER_SECOND;

	if (outlier->until && service->eject_seconds)
		ejection_uncount(service, family, outlier->until);
	if (!service->eject_seconds || !ejection_count(service, family, until, now)) {
		outlier->until = 0;
		return;
	}
	outlier->times = times;
	outlier->until = until;
	ejection_raise(service->id, until + EJECTION_MEMORY);
}

/*
 * A backend that is in, beginning with the one that was drawn: a few more draws, so that the others
 * get their weights' shares, then by turns. If there is none it is the one that was drawn.
 */
static __always_inline u32 ejection_avoid(const struct service *service, u32 drawn, u32 who,
					  u64 now, bool v4)
{
	u32 id = drawn, state = BACKEND_OUT;
	struct slot_key key = {
		.service = service->id,
		.epoch = service->epoch,
		.slot = bpf_get_prandom_u32(),
	};
	struct outlier *outlier;
	struct slot *slot;

#pragma clang loop unroll(disable)
	for (int i = 0; i <= EJECTION_DRAWS + EJECTION_ROWS; i++) {
		state = ejection_state(id, who, now);
		if (state != BACKEND_OUT)
			break;
		if (i < EJECTION_DRAWS) {
			id = service_draw(service);
			continue;
		}
		key.slot = (key.slot + 1) % service->slots;
		slot = slot_at(&key);
		if (slot)
			id = slot->first;
	}
	if (state == BACKEND_OUT)
		return drawn;
	if (state == BACKEND_DUE) {
		outlier = outlier_at(id);
		if (outlier)
			ejection_eject(service, v4 ? AF_INET : AF_INET6, outlier, now);
	}
	return id;
}

/* A connection came about: its backend is well. */
static __always_inline void ejection_succeeded(const struct flow *flow, u64 now)
{
	struct outlier *outlier;
	struct endpoint dialled = {};
	struct service *service;

	if (!ejection_alert(flow->service, now))
		return;
	outlier = outlier_at(flow->backend);
	if (!outlier)
		return;
	outlier->failures = 0;
	if (!outlier->until)
		return;
	dialled.address = flow->dialled;
	dialled.port = flow->dialled_port;
	dialled.protocol = flow->protocol;
	service = service_at(&dialled);
	if (service && service->eject_seconds)
		ejection_uncount(service, address_is4(&flow->dialled) ? AF_INET : AF_INET6,
				 outlier->until);
	outlier->until = 0;
}

/* A connection did not come about, and the application did not give up before it could. */
static __always_inline void ejection_failed(const struct flow *flow)
{
	u64 now = bpf_ktime_get_ns();
	struct outlier *outlier, fresh = {};
	struct endpoint dialled = {};
	struct service *service;

	dialled.address = flow->dialled;
	dialled.port = flow->dialled_port;
	dialled.protocol = flow->protocol;
	service = service_at(&dialled);
	if (!service || service->id != flow->service || !service->eject_after)
		return;
	ejection_raise(service->id, now + EJECTION_MEMORY);
	outlier = outlier_at(flow->backend);
	if (!outlier) {
		fresh.failed = now;
		fresh.service = service->id;
		fresh.who = flow->source;
		outlier = outlier_make(flow->backend, &fresh);
		if (!outlier)
			return;
	}
	if (now - outlier->failed > EJECTION_MEMORY && outlier->until <= now) {
		outlier->failures = 0;
		outlier->times = 0;
		outlier->until = 0;
	}
	if (!outlier->failures) {
		outlier->who = flow->source;
		if (now - outlier->failed > outlier->times * service->eject_seconds * NS_PER_SECOND)
			outlier->times = 0;	/* it was well for as long as it was out */
	} else if (outlier->who != flow->source) {
		outlier->who = 0;
	}
	outlier->failed = now;
	__sync_fetch_and_add(&outlier->failures, 1);
	if (outlier->until <= now && outlier->failures >= service->eject_after)
		ejection_eject(service, address_is4(&flow->dialled) ? AF_INET : AF_INET6, outlier,
			       now);
}
