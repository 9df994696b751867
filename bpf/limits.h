/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Connection limits: how fast one caller of a service may open connections, and how many of them it
 * may have open.
 *
 * A caller is an identity; where one identity stands for many (the world, a node's own processes)
 * it is an address. Each end's node counts for itself: what leaves at connect(), what arrives at the
 * SYN. A place is taken when a connection begins and is noted in its flow, so that it is given back
 * exactly when the flow ends.
 *
 * Rates are a virtual schedule (the generic cell rate algorithm of ITU-T I.371): each connection moves
 * `paid` on by one interval, and one that would be ahead of the clock by more than a burst is refused.
 */

#define IDENTITY_FIRST		256	/* meshapi/identity.py: the numbers below are shared */
#define LIMIT_WINDOW_BITS	35	/* of ns: 34 s, longer than a handshake takes */

#define PLACE_NONE		0	/* UDP has no connections to count */
#define PLACE_OPEN		1
#define PLACE_HANDSHAKE		2	/* until it is established, or two windows have passed */

static __always_inline void caller_make(u32 limit, u32 identity, u8 direction,
					const struct address *address, struct caller *caller)
{
	caller->limit = limit;
	caller->who = identity << 1 | direction;
	if (identity < IDENTITY_FIRST && direction == DIRECTION_INBOUND)
		caller->address = *address;
}

static __always_inline void caller_of(const struct flow *flow, struct caller *caller)
{
	caller_make(flow->limit, flow->source, flow->direction, &flow->actual, caller);
}

static __always_inline bool caller_same(const struct caller *a, const struct caller *b)
{
	return a->limit == b->limit && a->who == b->who && address_same(&a->address, &b->address);
}

static __always_inline u32 caller_mixed(u32 hash, u32 word)
{
	hash = (hash ^ word) * 0x9e3779b1;
	return hash ^ hash >> 15;
}

static __always_inline struct allowances *allowances_of(u32 seed, const struct caller *caller)
{
	u32 hash = caller_mixed(seed, caller->limit);

	hash = caller_mixed(hash, caller->who);
	hash = caller_mixed(hash, caller->address.ip[0]);
	hash = caller_mixed(hash, caller->address.ip[1]);
	hash = caller_mixed(hash, caller->address.ip[2]);
	hash = caller_mixed(hash, caller->address.ip[3]);
	hash = caller_mixed(hash, seed);
	return allowances_at(((u64)hash * SIZE_allowances) >> 32);
}

/* Everything below that takes an allowance runs under the lock of its set: no calls. */

static __always_inline struct allowance *allowance_find(struct allowances *set,
							const struct caller *caller)
{
#pragma unroll
	for (int i = 0; i < ALLOWANCE_WAYS; i++)
		if (caller_same(&set->ways[i].caller, caller))
			return &set->ways[i];
	return NULL;
}

/* Handshakes that began two windows ago or earlier are forgotten. */
static __always_inline void allowance_roll(struct allowance *allowance, u32 window)
{
	u32 passed = window - allowance->window;

	if (!passed)
		return;
	allowance->handshakes[1] = passed == 1 ? allowance->handshakes[0] : 0;
	allowance->handshakes[0] = 0;
	allowance->window = window;
}

static __always_inline bool allowance_idle(const struct allowance *allowance, u32 window)
{
	u32 passed = window - allowance->window;

	return !allowance->open && (passed > 1 || (!allowance->handshakes[0] &&
						   (passed || !allowance->handshakes[1])));
}

/* The caller's allowance, if need be in place of that idle one which matters least; NULL: none is. */
static __always_inline struct allowance *allowance_get(struct allowances *set,
						       const struct caller *caller, u32 window)
{
	struct allowance *found = allowance_find(set, caller);

	if (!found) {
		u64 least = ~0ULL;

#pragma unroll
		for (int i = 0; i < ALLOWANCE_WAYS; i++) {
			if (set->ways[i].paid < least && allowance_idle(&set->ways[i], window)) {
				found = &set->ways[i];
				least = found->paid;
			}
		}
		if (!found)
			return NULL;
		found->paid = 0;
		found->caller = *caller;
		found->open = 0;
		found->window = window;
		found->handshakes[0] = 0;
		found->handshakes[1] = 0;
	}
	allowance_roll(found, window);
	return found;
}

static __always_inline u8 allowance_take(const struct limit *limit, struct allowance *allowance,
					 u64 now, u32 place)
{
	u32 held = allowance->open + allowance->handshakes[0] + allowance->handshakes[1];

	if (place && limit->most && held >= limit->most)
		return REASON_CONCURRENCY_LIMITED;
	if (limit->interval) {
		if (allowance->paid > now + limit->tolerance)
			return REASON_RATE_LIMITED;
		if (allowance->paid < now)
			allowance->paid = now;
		allowance->paid += limit->interval;
	}
	if (place == PLACE_OPEN)
		allowance->open++;
	else if (place == PLACE_HANDSHAKE)
		allowance->handshakes[0]++;
	return REASON_NONE;
}

/* REASON_NONE, and the place is taken; or the reason for which the connection must not begin. */
static __always_inline u8 limit_take(const struct settings *cfg, const struct limit *limit,
				     const struct caller *caller, u64 now, u32 place)
{
	struct allowances *set = allowances_of(cfg->seed, caller);
	struct allowance *allowance;
	u8 reason = REASON_STATE_FULL;

	if (!set)
		return reason;
	bpf_spin_lock(&set->lock);
	allowance = allowance_get(set, caller, now >> LIMIT_WINDOW_BITS);
	if (allowance)
		reason = allowance_take(limit, allowance, now, place);
	bpf_spin_unlock(&set->lock);
	return reason;
}

/* The end of a flow, whatever became of it. */
static __always_inline void limit_give_back(const struct flow *flow)
{
	struct settings *cfg;
	struct allowances *set;
	struct allowance *allowance;
	struct caller caller = {};

	if (!flow->limit)
		return;
	cfg = settings_get();
	if (!cfg)
		return;
	caller_of(flow, &caller);
	set = allowances_of(cfg->seed, &caller);
	if (!set)
		return;
	bpf_spin_lock(&set->lock);
	allowance = allowance_find(set, &caller);
	if (allowance && allowance->open)
		allowance->open--;
	bpf_spin_unlock(&set->lock);
}

/* A new connection or exchange of a local caller to a service that has a limit: a reason, or none. */
static __always_inline u8 limit_outbound(const struct settings *cfg, u32 id, struct flow *flow)
{
	bool counted = flow->protocol == IPPROTO_TCP;
	struct limit *limit = limit_of(id);
	struct caller caller = {};
	u8 reason;

	if (!limit)
		return REASON_NONE;
	caller_make(id, flow->source, flow->direction, &flow->actual, &caller);
	reason = limit_take(cfg, limit, &caller, flow->started,
			    counted ? PLACE_OPEN : PLACE_NONE);
	if (!reason && counted)
		flow->limit = id;
	else if (reason)
		flow->rule = limit->rule;
	return reason;
}

/* What bounds those who come to a port of a local workload; NULL if nothing bounds this one. */
static __always_inline struct limit *limit_inbound(const struct workload *to, u64 cgroup,
						   const struct peer *from, __be16 port,
						   u8 protocol)
{
	struct guard_key key = { .cgroup = cgroup, .port = port, .protocol = protocol };

	if (!(to->flags & END_LIMITED) || from->flags & (END_LOCAL_NODE | END_PROXY))
		return NULL;	/* this node's own were asked at connect(), the proxy's by its node */
	return guard_at(&key);
}

/*
 * A SYN holds a place until its connection is established. Its retransmissions find the place taken
 * and ask for nothing.
 */
static __always_inline u8 limit_syn(const struct settings *cfg, const struct limit *limit,
				    u32 identity, struct accepting_key *tuple, __be32 sequence)
{
	struct reservation *known = reservation_at(tuple), fresh = {};
	u64 now = bpf_ktime_get_ns();
	u32 window = now >> LIMIT_WINDOW_BITS;
	struct caller caller = {};
	u8 reason;

	if (known && known->sequence == sequence && known->limit == limit->id &&
	    window - known->window < 2)
		return REASON_NONE;
	caller_make(limit->id, identity, DIRECTION_INBOUND, &tuple->remote, &caller);
	reason = limit_take(cfg, limit, &caller, now, PLACE_HANDSHAKE);
	if (reason)
		return reason;
	fresh.sequence = sequence;
	fresh.limit = limit->id;
	fresh.window = window;
	return reservation_put(tuple, &fresh) ? REASON_STATE_FULL : REASON_NONE;
}

/* The first datagram of an exchange. */
static __always_inline u8 limit_datagram(const struct settings *cfg, const struct limit *limit,
					 u32 identity, const struct address *remote)
{
	struct caller caller = {};

	caller_make(limit->id, identity, DIRECTION_INBOUND, remote, &caller);
	return limit_take(cfg, limit, &caller, bpf_ktime_get_ns(), PLACE_NONE);
}

/* A limit's refusal becomes the decision. */
static __always_inline void limit_decide(const struct limit *limit, u8 refusal,
					 struct decision *decision)
{
	if (!refusal)
		return;
	decision->verdict = VERDICT_DENY;
	decision->reason = refusal;
	decision->rule = limit->rule;
}

/* Established: the handshake's place becomes that of an open connection, noted in its flow. */
static __always_inline void limit_established(struct accepting_key *tuple, struct flow *flow)
{
	struct reservation *known = reservation_at(tuple);
	u32 window = flow->started >> LIMIT_WINDOW_BITS, began;
	struct settings *cfg = settings_get();
	struct allowances *set;
	struct allowance *allowance;
	struct caller caller = {};

	if (!known || !cfg)
		return;
	flow->limit = known->limit;
	began = known->window;
	reservation_drop(tuple);
	caller_of(flow, &caller);
	set = allowances_of(cfg->seed, &caller);
	if (!set)
		return;
	bpf_spin_lock(&set->lock);
	allowance = allowance_get(set, &caller, window);
	if (allowance) {
		allowance->open++;
		if (began == window && allowance->handshakes[0])
			allowance->handshakes[0]--;
		else if (began + 1 == window && allowance->handshakes[1])
			allowance->handshakes[1]--;
	}
	bpf_spin_unlock(&set->lock);
	if (!allowance)
		flow->limit = 0;
}

/* The flow that a socket has leaves it without an end of its own: it connects again, or in vain. */
static __always_inline void socket_forget(u64 cookie)
{
	struct flow *known = socket_flow(cookie);

	if (!known)
		return;
	limit_give_back(known);
	socket_flow_drop(cookie);
}
