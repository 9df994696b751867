/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel maps and the only functions that touch them.
 *
 * PIN_<map> and SIZE_<map> come from the loader. BCC rewrites the method calls below into helper
 * calls, which it can do only in plain functions of the main file; hence accessors, not macros.
 */

/* BCC's own macros for these two kinds of map cannot pin; same layout, with a pin. */
#define RING_BUFFER(name, pages, pin)							\
	struct name##_table_t {								\
		int key;								\
		u32 leaf;								\
		int (*ringbuf_output)(void *, u64, u64);				\
		void *(*ringbuf_reserve)(u64);						\
		void (*ringbuf_discard)(void *, u64);					\
		void (*ringbuf_submit)(void *, u64);					\
		u64 (*ringbuf_query)(u64);						\
		u32 max_entries;							\
	};										\
	__attribute__((section("maps/ringbuf:" pin)))					\
	struct name##_table_t name = { .max_entries = (pages) }

#define SOCKET_STORAGE(name, type, pin)							\
	struct name##_table_t {								\
		int key;								\
		type leaf;								\
		void *(*sk_storage_get)(void *, void *, int);				\
		int (*sk_storage_delete)(void *);					\
		u32 flags;								\
	};										\
	__attribute__((section("maps/sk_storage:" pin)))				\
	struct name##_table_t name = { .flags = BPF_F_NO_PREALLOC };			\
	BPF_ANNOTATE_KV_PAIR(name, int, type)

BPF_TABLE_PINNED("array", u32, struct settings, settings, SIZE_settings, PIN_settings);
BPF_TABLE_PINNED("hash", u64, struct workload, workloads, SIZE_workloads, PIN_workloads,
		 BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED("hash", struct address, struct peer, peers, SIZE_peers, PIN_peers,
		 BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED("hash", struct endpoint, struct peer, listeners, SIZE_listeners, PIN_listeners,
		 BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED("lpm_trie", struct block_key, u32, blocks, SIZE_blocks, PIN_blocks,
		 BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED("hash", struct endpoint, struct service, services, SIZE_services, PIN_services,
		 BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED("hash", struct slot_key, struct slot, slots, SIZE_slots, PIN_slots,
		 BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED("hash", u32, struct backend, backends, SIZE_backends, PIN_backends,
		 BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED("hash", struct policy_key, struct decision, policy, SIZE_policy, PIN_policy,
		 BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED("lpm_trie", struct port_rule_key, struct decision, port_rules, SIZE_port_rules,
		 PIN_port_rules, BPF_F_NO_PREALLOC);

BPF_TABLE_PINNED("hash", u64, struct flow, sockets, SIZE_sockets, PIN_sockets);
BPF_TABLE_PINNED("hash", struct datagram_key, struct flow, datagrams, SIZE_datagrams,
		 PIN_datagrams);
BPF_TABLE_PINNED("lru_hash", struct datagram_key, struct session, sessions, SIZE_sessions,
		 PIN_sessions);
BPF_TABLE_PINNED("lru_hash", struct accepting_key, struct accepting, accepting, SIZE_accepting,
		 PIN_accepting);
BPF_TABLE_PINNED("lru_hash", struct inflight_key, struct origin, inflight, SIZE_inflight,
		 PIN_inflight);
BPF_TABLE_PINNED("lru_hash", struct refused_key, u64, refused, SIZE_refused, PIN_refused);
SOCKET_STORAGE(origins, struct origin, PIN_origins);

BPF_TABLE_PINNED("hash", struct domain_key, u32, domains, SIZE_domains, PIN_domains,
		 BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED("hash", struct endpoint, u8, resolvers, SIZE_resolvers, PIN_resolvers,
		 BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED("lru_hash", struct address, struct learnt, learnt, SIZE_learnt, PIN_learnt);
BPF_TABLE_PINNED("percpu_array", u32, struct name, scratch, SIZE_scratch, PIN_scratch);
BPF_TABLE_PINNED("percpu_array", u32, struct arrival, arrivals, SIZE_arrivals, PIN_arrivals);
BPF_TABLE_PINNED("prog", u32, u32, calls, SIZE_calls, PIN_calls);
BPF_TABLE_PINNED("hash", struct resident_key, struct workload, residents, SIZE_residents,
		 PIN_residents, BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED("hash", struct node_key_id, struct node_key, node_keys, SIZE_node_keys,
		 PIN_node_keys, BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED("lru_hash", struct accepting_key, u64, vouched, SIZE_vouched, PIN_vouched);

BPF_TABLE_PINNED("hash", struct pair, struct counters, pairs, SIZE_pairs, PIN_pairs,
		 BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED("percpu_array", u32, u64, losses, SIZE_losses, PIN_losses);
RING_BUFFER(events, SIZE_events, PIN_events);

BPF_TABLE_PINNED("hash", struct interface_key, struct interface, interfaces, SIZE_interfaces,
		 PIN_interfaces, BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED("lpm_trie", struct block_key, u32, blocked, SIZE_blocked, PIN_blocked,
		 BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED("lru_hash", struct tuple, struct crossing, crossings, SIZE_crossings,
		 PIN_crossings);
BPF_TABLE_PINNED("lru_hash", struct fragment_key, u64, fragments, SIZE_fragments, PIN_fragments);
SOCKET_STORAGE(receivers, u64, PIN_receivers);

/*
 * Where a program keeps what it found out about a packet. What lies in a map is nothing that the
 * verifier follows path by path, so that large programs stay small to it. Not pinned: nothing of it
 * outlives a packet.
 */
struct scratch {
	u64 words[32];
};

BPF_PERCPU_ARRAY(scratches, struct scratch, 1);

/* Entries of interfaces as they were last found: an array's element costs a tenth of a hash's. */
#define SEEN_SLOTS	256

struct seen {
	struct interface_key key;
	u32 epoch;			/* policy_epoch: whatever is written changes it */
	struct interface interface;
};

BPF_PERCPU_ARRAY(seens, struct seen, SEEN_SLOTS);
BPF_TABLE_PINNED("lru_hash", struct affinity_key, struct affinity, affinities, SIZE_affinities,
		 PIN_affinities);
BPF_TABLE_PINNED("lru_hash", u32, struct outlier, outliers, SIZE_outliers, PIN_outliers);
BPF_TABLE_PINNED("lru_hash", struct ejection_key, u32, ejections, SIZE_ejections, PIN_ejections);
BPF_TABLE_PINNED("array", u32, u64, alerts, SIZE_alerts, PIN_alerts);
BPF_TABLE_PINNED("hash", u32, struct limit, limits, SIZE_limits, PIN_limits, BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED("hash", struct guard_key, struct limit, guards, SIZE_guards, PIN_guards,
		 BPF_F_NO_PREALLOC);
BPF_TABLE_PINNED("array", u32, struct allowances, allowances, SIZE_allowances, PIN_allowances);
BPF_TABLE_PINNED("lru_hash", struct accepting_key, struct reservation, reserved, SIZE_reserved,
		 PIN_reserved);

static __always_inline struct settings *settings_get(void)
{
	u32 zero = 0;

	return settings.lookup(&zero);
}

static __always_inline struct workload *workload_at(u64 cgroup)
{
	return workloads.lookup(&cgroup);
}

static __always_inline struct peer *peer_at(struct address *address)
{
	return peers.lookup(address);
}

static __always_inline struct peer *listener_at(struct endpoint *endpoint)
{
	return listeners.lookup(endpoint);
}

static __always_inline u32 *block_of(struct block_key *key)
{
	return blocks.lookup(key);
}

static __always_inline struct service *service_at(struct endpoint *endpoint)
{
	return services.lookup(endpoint);
}

static __always_inline struct slot *slot_at(struct slot_key *key)
{
	return slots.lookup(key);
}

static __always_inline struct backend *backend_at(u32 id)
{
	return backends.lookup(&id);
}

static __always_inline struct decision *decision_for(struct policy_key *key)
{
	return policy.lookup(key);
}

static __always_inline struct decision *port_rule_for(struct port_rule_key *key)
{
	return port_rules.lookup(key);
}

static __always_inline u32 *domain_pattern(struct domain_key *key)
{
	return domains.lookup(key);
}

static __always_inline bool is_resolver(struct endpoint *at)
{
	return resolvers.lookup(at) != NULL;
}

static __always_inline struct learnt *learnt_at(struct address *address)
{
	return learnt.lookup(address);
}

static __always_inline int learnt_put(struct address *address, struct learnt *value)
{
	return learnt.update(address, value);
}

/* Another program goes on with the packet; returns only if it is not there (yet). */
static __always_inline void call(struct __sk_buff *skb, u32 program)
{
	calls.call(skb, program);
}

/* There always is one; only the verifier does not know. */
static __always_inline struct arrival *arrival_get(void)
{
	u32 zero = 0;

	return arrivals.lookup(&zero);
}

static __always_inline struct name *name_scratch(void)
{
	u32 zero = 0;

	return scratch.lookup(&zero);
}

static __always_inline struct flow *socket_flow(u64 cookie)
{
	return sockets.lookup(&cookie);
}

static __always_inline int socket_flow_put(u64 cookie, struct flow *flow)
{
	return sockets.update(&cookie, flow);
}

/* The same, but -EEXIST when the socket has a flow already. */
static __always_inline int socket_flow_new(u64 cookie, struct flow *flow)
{
	return sockets.insert(&cookie, flow);
}

static __always_inline void socket_flow_drop(u64 cookie)
{
	sockets.delete(&cookie);
}

static __always_inline struct flow *datagram_flow(struct datagram_key *key)
{
	return datagrams.lookup(key);
}

static __always_inline int datagram_flow_put(struct datagram_key *key, struct flow *flow)
{
	return datagrams.update(key, flow);
}

static __always_inline void datagram_flow_drop(struct datagram_key *key)
{
	datagrams.delete(key);
}

static __always_inline struct session *session_at(struct datagram_key *key)
{
	return sessions.lookup(key);
}

static __always_inline int session_put(struct datagram_key *key, struct session *session)
{
	return sessions.update(key, session);
}

static __always_inline struct accepting *accepting_at(struct accepting_key *key)
{
	return accepting.lookup(key);
}

static __always_inline int accepting_put(struct accepting_key *key, struct accepting *value)
{
	return accepting.update(key, value);
}

static __always_inline struct origin *inflight_at(struct inflight_key *key)
{
	return inflight.lookup(key);
}

static __always_inline int inflight_put(struct inflight_key *key, struct origin *origin)
{
	return inflight.update(key, origin);
}

static __always_inline void inflight_drop(struct inflight_key *key)
{
	inflight.delete(key);
}

/* 0 when this SYN is refused for the first time, -EEXIST for a retransmission. */
static __always_inline int refused_note(struct refused_key *key, u64 now)
{
	return refused.insert(key, &now);
}

static __always_inline struct origin *origin_of(struct bpf_sock *sk)
{
	return origins.sk_storage_get(sk, 0, 0);
}

static __always_inline struct origin *origin_make(struct bpf_sock *sk)
{
	return origins.sk_storage_get(sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
}

static __always_inline struct workload *resident_at(struct resident_key *key)
{
	return residents.lookup(key);
}

static __always_inline struct node_key *node_key_of(struct node_key_id *id)
{
	return node_keys.lookup(id);
}

static __always_inline u64 *vouched_at(struct accepting_key *key)
{
	return vouched.lookup(key);
}

static __always_inline void vouch(struct accepting_key *key)
{
	u64 now = bpf_ktime_get_ns();

	vouched.update(key, &now);
}

static __always_inline void loss(u32 kind)
{
	u64 *count = losses.lookup(&kind);

	if (count)
		(*count)++;
}

static __always_inline struct counters *counters_of(struct pair *pair)
{
	struct counters *found = pairs.lookup(pair);

	if (!found) {
		struct counters zero = {};

		pairs.insert(pair, &zero);
		found = pairs.lookup(pair);
		if (!found)
			loss(LOSS_PAIR);
	}
	return found;
}

static __always_inline struct event *event_reserve(void)
{
	struct event *event = events.ringbuf_reserve(sizeof(struct event));

	if (!event)
		loss(LOSS_EVENT);
	return event;
}

static __always_inline void event_submit(struct event *event)
{
	events.ringbuf_submit(event, BPF_RB_NO_WAKEUP);
}

static __always_inline void *scratch_zeroed(void)
{
	u32 zero = 0;
	struct scratch *found = scratches.lookup(&zero);

	if (found)
		__builtin_memset(found, 0, sizeof(*found));
	return found;
}

static __always_inline struct seen *seen_at(u32 number)
{
	u32 slot = number % SEEN_SLOTS;

	return seens.lookup(&slot);
}

static __always_inline struct interface *interface_find(struct interface_key *key)
{
	return interfaces.lookup(key);
}

/* The rule that blocks an address; NULL or 0 if none does. */
static __always_inline u32 *blocked_by(struct block_key *key)
{
	return blocked.lookup(key);
}

static __always_inline struct crossing *crossing_at(struct tuple *tuple)
{
	return crossings.lookup(tuple);
}

static __always_inline void crossing_put(struct tuple *tuple, struct crossing *crossing)
{
	crossings.update(tuple, crossing);
}

static __always_inline bool fragment_known(struct fragment_key *key)
{
	return fragments.lookup(key);
}

static __always_inline void fragment_put(struct fragment_key *key, u64 now)
{
	fragments.update(key, &now);
}

/* The workload's cgroup that a bound socket was bound by, NULL if that is not known. */
static __always_inline u64 *receiver_of(struct bpf_sock *sk)
{
	return receivers.sk_storage_get(sk, 0, 0);
}

static __always_inline u64 *receiver_make(struct bpf_sock *sk)
{
	return receivers.sk_storage_get(sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
}

static __always_inline struct affinity *affinity_at(struct affinity_key *key)
{
	return affinities.lookup(key);
}

static __always_inline int affinity_new(struct affinity_key *key, struct affinity *affinity)
{
	return affinities.insert(key, affinity);
}

static __always_inline int affinity_put(struct affinity_key *key, struct affinity *affinity)
{
	return affinities.update(key, affinity);
}

static __always_inline struct outlier *outlier_at(u32 backend)
{
	return outliers.lookup(&backend);
}

/* The backend's entry, made if need be. */
static __always_inline struct outlier *outlier_make(u32 backend, struct outlier *fresh)
{
	outliers.insert(&backend, fresh);
	return outliers.lookup(&backend);
}

static __always_inline u32 *ejections_at(struct ejection_key *key)
{
	return ejections.lookup(key);
}

static __always_inline u32 *ejections_make(struct ejection_key *key)
{
	u32 none = 0;

	ejections.insert(key, &none);
	return ejections.lookup(key);
}

static __always_inline u64 *alert_of(u32 service)
{
	u32 index = service % SIZE_alerts;

	return alerts.lookup(&index);
}

static __always_inline struct limit *limit_of(u32 id)
{
	return limits.lookup(&id);
}

static __always_inline struct limit *guard_at(struct guard_key *key)
{
	return guards.lookup(key);
}

static __always_inline struct allowances *allowances_at(u32 index)
{
	return allowances.lookup(&index);
}

static __always_inline struct reservation *reservation_at(struct accepting_key *key)
{
	return reserved.lookup(key);
}

static __always_inline int reservation_put(struct accepting_key *key, struct reservation *value)
{
	return reserved.update(key, value);
}

static __always_inline void reservation_drop(struct accepting_key *key)
{
	reserved.delete(key);
}
