/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Telemetry: the aggregate first (it is the truth), then one event if the ring buffer has room.
 */

static __always_inline struct counters *flow_counters(const struct flow *flow)
{
	struct pair pair = {
		.source = flow->source,
		.destination = flow->destination,
		.service = flow->service,
		.rule = flow->verdict == VERDICT_DENY || flow->reason == REASON_WOULD_DENY ?
				flow->rule : 0,
		.port = bpf_ntohs(flow->dialled_port),
		.protocol = flow->protocol,
		.direction = flow->direction,
		.verdict = flow->verdict,
		.reason = flow->reason,
		.path = flow->path,
	};

	return counters_of(&pair);
}

static __always_inline void flow_event(const struct flow *flow, struct event *event, u64 now,
				       u64 cookie, u8 state)
{
	event->time = now;
	event->duration = now - flow->started;
	event->connect = 0;
	event->cgroup = flow->cgroup;
	event->cookie = cookie;
	event->sent = flow->sent;
	event->received = flow->received;
	__builtin_memset(&event->local, 0, sizeof(event->local));
	event->remote = flow->actual;
	event->dialled = flow->dialled;
	event->local_port = 0;
	event->remote_port = flow->actual_port;
	event->dialled_port = flow->dialled_port;
	event->error = 0;
	event->source = flow->source;
	event->destination = flow->destination;
	event->service = flow->service;
	event->rule = flow->rule;
	event->retransmits = 0;
	event->round_trip = 0;
	event->protocol = flow->protocol;
	event->direction = flow->direction;
	event->verdict = flow->verdict;
	event->reason = flow->reason;
	event->path = flow->path;
	event->hook = flow->hook;
	event->state = state;
	event->cut = flow->cut;
	event->flags = flow->flags;
	__builtin_memset(event->pad, 0, sizeof(event->pad));
	event->claim = flow->claim;
}

static __always_inline void flow_opened(const struct flow *flow)
{
	struct counters *counters = flow_counters(flow);

	if (counters)
		__sync_fetch_and_add(&counters->opened, 1);
}

/* A refusal: counted, and told once. */
static __always_inline void flow_denied(const struct flow *flow, u64 cookie)
{
	struct counters *counters = flow_counters(flow);

	if (counters) {
		__sync_fetch_and_add(&counters->denied, 1);
		__sync_fetch_and_add(&counters->refused_packets, 1);
	}
	struct event *event = event_reserve();

	if (!event)
		return;
	flow_event(flow, event, flow->started, cookie, STATE_DENIED);
	event_submit(event);
}

/* A flow that ended where sockops does not look: UDP, whose bytes are counted already, or no SYN. */
static __always_inline void flow_released(const struct flow *flow, u64 cookie, u8 state)
{
	struct counters *counters = flow_counters(flow);

	if (counters)
		__sync_fetch_and_add(state == STATE_CLOSED ? &counters->closed : &counters->failed,
				     1);
	struct event *event = event_reserve();

	if (!event)
		return;
	flow_event(flow, event, bpf_ktime_get_ns(), cookie, state);
	event_submit(event);
}

/* A refused packet of something that was told of before. */
static __always_inline void flow_refused_again(const struct flow *flow)
{
	struct counters *counters = flow_counters(flow);

	if (counters)
		__sync_fetch_and_add(&counters->refused_packets, 1);
}
