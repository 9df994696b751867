/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Every structure that kernel and user space share, in plain C.
 *
 * nodeagent/layout.py describes the same bytes; tests/bpf/test_layout.py compares the two.
 * Addresses are 16 bytes, IPv4 as ::ffff:a.b.c.d, so that v4 and v6 share one code path.
 * Ports are in network order where the name says __be16 and in host order otherwise.
 */
#ifndef HOPLITE_TYPES_H
#define HOPLITE_TYPES_H

struct address {
	__be32 ip[4];
};

struct endpoint {
	struct address address;
	__be16 port;
	__u8 protocol;
	__u8 pad;
};

/* settings[0]: what the agent tells every program. */
struct settings {
	struct address pod_proxy4;	/* where pods dial the node proxy */
	struct address pod_proxy6;
	__u64 host_netns;		/* cookie of the node's own network namespace */
	__be16 proxy_port;
	__u16 flags;			/* SETTINGS_* */
	__u32 policy_epoch;		/* changes with every change of policy */
	__u32 node_class4;		/* policy class of this node's own processes */
	__u32 node_class6;
	__u8 levels[4];			/* cgroup levels at which workloads live, 0 ends the list */
	__u32 seed;			/* random, the same as long as the maps live */
};

#define SETTINGS_L7		1	/* some service is redirected to the node proxy */
#define SETTINGS_QUARANTINE	256	/* somebody in the mesh is quarantined */
#define SETTINGS_BLOCKED	512	/* some address is on a block list */
#define SETTINGS_NAMES		2	/* some policy speaks of domain names */
#define SETTINGS_IDENTITY	4	/* identities in SYNs are looked at */

/*
 * workloads[cgroup id]: who the sockets of a cgroup belong to.
 * residents[node, claim]: who the workloads of other nodes are.
 */
struct workload {
	__u32 identity;
	__u32 class4;			/* policy class when speaking IPv4 */
	__u32 class6;
	__u32 flags;			/* END_* */
	__u32 claim;			/* what other nodes are told of it; never 0 */
};

struct resident_key {
	__u32 node;
	__u32 claim;
};

/* peers[address] and listeners[endpoint]: who is behind an address. */
struct peer {
	__u32 identity;
	__u32 class;
	__u32 flags;			/* END_* */
	__u32 node;			/* whose node's it is; 0 = no node's */
};

#define END_EGRESS		1	/* some policy restricts what it may reach */
#define END_INGRESS		2	/* some policy restricts who may reach it */
#define END_HOST		4	/* lives in the node's own network namespace */
#define END_SHARED		8	/* several workloads share the address: see listeners */
#define END_LOCAL_NODE		16	/* an address of this node itself */
#define END_PROXY		32	/* the source address of a node proxy */
#define END_VIP			64	/* a service's virtual address */
#define END_LOCAL		128	/* a workload on this node */
#define END_QUARANTINED		256	/* cut off, from its own node too */
#define END_BLOCKED		65536	/* its address is on a block list; local workloads only */
#define END_LIMITED		4096	/* some port of it bounds its callers: see guards */
#define END_RESTS		32768	/* a backend that keeps what it has and gets nothing new */

/* blocks[prefix]: policy class of addresses outside the mesh. */
struct block_key {
	__u32 bits;
	struct address address;
};

/* blocked[prefix]: the rule that blocks it; 0 = not blocked, though a shorter prefix is. */

/* services[endpoint]: what is behind a service's virtual address and port. */
struct service {
	__u32 id;
	__u32 class;			/* REDIRECT: policy class that stands for all backends */
	__u32 slots;			/* LB: entries in the slot table; 0 = no backend */
	__u32 epoch;			/* LB: which slot table */
	__u32 flags;			/* END_*, REDIRECT only */
	__u32 action;			/* SERVICE_* */
	__u32 limit;			/* which of `limits` bounds its callers; 0 = none */
	__u32 affinity;			/* LB: seconds that a client stays with its backend; 0 = none */
	__u16 eject_after;		/* LB: failures in a row that eject a backend; 0 = none do */
	__u16 eject_seconds;		/* LB: how long, the first time */
	__u16 eject_most;		/* LB: how many may be out at a time */
	__u16 pad;
};

#define SERVICE_LB		0
#define SERVICE_REDIRECT	1

/*
 * backends[id]: an address and port actually dialled. The id stands for one backend of one service
 * port, so that an entry is there for just as long as the backend belongs to the service.
 */
struct backend {
	struct address address;
	__be16 port;
	__u16 flags;			/* END_* */
	__u32 identity;
	__u32 class;
	__u32 node;			/* whose node's it is */
};

/*
 * slots[service, epoch, slot]: an alias table (Walker 1974, Vose 1991): slot i is drawn with equal
 * chance, then `first` with probability threshold / 2^32, otherwise `second`. Exact weights, one
 * look-up, whatever the number of backends.
 */
struct slot_key {
	__u32 service;
	__u32 epoch;
	__u32 slot;
};

struct slot {
	__u32 first;			/* ids of backends */
	__u32 second;
	__u32 threshold;
};

/*
 * policy[source class, destination class]: what was decided for a pair of classes that some rule
 * singles out. For all other pairs the two ends' defaults hold: [source, CLASS_ANY] for what it may
 * reach, [CLASS_ANY, destination] for who may reach it.
 */
struct policy_key {
	__u32 source;
	__u32 destination;
};

#define CLASS_ANY		0xffffffff

struct decision {
	__u32 rule;			/* the agent's number for the rule that decided */
	__u32 ports;			/* not 0: it depends on the port, see port_rules */
	__u8 verdict;
	__u8 reason;
	__u8 flags;			/* DECISION_* */
	__u8 pad;
};

#define DECISION_STRICT		1	/* only for a caller whose identity is authenticated */

/*
 * port_rules[list, protocol, port prefix]: decisions that depend on the port, one list for all the
 * pairs that have the same. The longest prefix decides; a list covers every protocol and port.
 */
struct port_rule_key {
	__u32 bits;
	__u32 list;
	__u8 protocol;			/* PORT_RULES_OTHER for all but TCP and UDP */
	__u8 pad;
	__be16 port;
};

#define PORT_RULE_BITS		64
#define PORT_RULES_OTHER	0

/* sockets[cookie] and datagrams[cookie, remote]: a connection while it lives. */
struct flow {
	__u64 started;			/* ns, CLOCK_MONOTONIC */
	__u64 established;		/* TCP: ns when the handshake ended; UDP: last datagram */
	__u64 cgroup;
	__u64 sent;			/* bytes of payload (UDP) */
	__u64 received;			/* the same; TCP: bytes_received when FIN_WAIT2 began */
	struct address dialled;		/* what the application asked for */
	struct address actual;		/* what it was given */
	__be16 dialled_port;
	__be16 actual_port;
	__u32 source;			/* identities */
	__u32 destination;
	__u32 source_class;
	__u32 destination_class;
	__u32 service;
	__u32 backend;
	__u32 rule;
	__u32 epoch;			/* policy_epoch under which the verdict was made */
	__u32 claim;			/* the caller's: what it is to claim, or has proved */
	__u32 node;			/* outbound: whose node's the actual destination is */
	__u8 protocol;
	__u8 direction;
	__u8 verdict;
	__u8 reason;
	__u8 path;
	__u8 hook;
	__u8 cut;			/* REASON_*: policy has ended it, and `rule` says which */
	__u8 flags;			/* FLOW_* */
	__u32 limit;			/* not 0: it holds a place under this limit */
};

#define FLOW_AUTHENTICATED	1	/* the caller's identity was in its SYN; inbound: verified */
#define FLOW_STRICT		2	/* decided by a rule for authenticated callers only */
#define FLOW_TRANSLATED		4	/* dialled and actual differ */
#define FLOW_UNTRACKED		8	/* an exchange without a place of its own in `datagrams` */

struct datagram_key {
	__u64 cookie;
	struct address remote;
	__be16 port;
	__u16 pad[3];
};

/* sessions[cookie, dialled]: the backend that a UDP socket was given for a virtual address. */
struct session {
	__u32 service;
	__u32 backend;
};

/* accepting[tuple]: what was found out at the SYN, for when the connection is established. */
struct accepting_key {
	struct address remote;
	struct address local;
	__be16 remote_port;
	__be16 local_port;
};

struct accepting {
	__u64 cgroup;
	__u32 source;
	__u32 destination;
	__u32 source_class;
	__u32 destination_class;
	__u32 rule;
	__u8 verdict;
	__u8 reason;
	__u8 path;
	__u8 limited;			/* see reserved */
	__u8 flags;			/* FLOW_* */
	__u8 pad[3];
	__u32 claim;
};

/* A TCP or UDP packet of a workload, as seen from there. */
struct packet {
	union {
		struct accepting_key tuple;
		struct {
			struct address remote;
			struct address local;
			__be16 remote_port;
			__be16 local_port;
		};
	};
	__be32 sequence;
	__u32 transport;		/* where the header after IP's begins */
	__u32 payload;			/* UDP: bytes after the header */
	__u32 payload_at;		/* and where they begin */
	__u8 protocol;
	__u8 tcp_flags;
	__u8 pad[2];
} __attribute__((aligned(8)));

/* The packet that mesh_ingress leaves to another program, and room for what becomes of it. */
struct arrival {
	struct packet packet;
	__u64 cgroup;			/* the workload's */
	struct flow flow;
};

/* vouched[tuple]: connections of this node to itself that were decided by a strict rule: since when. */
#define VOUCHED_NS		130000000000ULL	/* a SYN is retransmitted for about 127 s */

/* inflight[source]: a redirected connection between the application's SYN and the proxy's accept. */
struct inflight_key {
	struct address address;
	__be16 port;
	__u16 pad[3];
	__u64 netns;			/* only for loopback, where addresses are not unique */
};

struct origin {
	struct address address;		/* original destination */
	__be16 port;
	__u16 pad;
	__u32 identity;			/* the caller's */
};

/* refused[SYN]: so that a SYN's retransmissions are one refusal and not five. */
struct refused_key {
	struct address remote;
	__be16 remote_port;
	__be16 local_port;
	__be32 sequence;
};

/* The aggregate: exact counters per pair; the truth that flow records are checked against. */
struct pair {
	__u32 source;
	__u32 destination;
	__u32 service;
	__u32 rule;			/* of a refusal or would-be refusal, otherwise 0 */
	__u16 port;			/* as dialled, host order */
	__u8 protocol;
	__u8 direction;
	__u8 verdict;
	__u8 reason;
	__u8 path;
	__u8 pad;
};

struct counters {
	__u64 opened;
	__u64 closed;
	__u64 failed;
	__u64 denied;
	__u64 sent;
	__u64 received;
	__u64 retransmits;
	__u64 refused_packets;		/* SYNs and datagrams dropped, retransmissions included */
};

/* One record of the ring buffer: a connection that ended or was refused. */
struct event {
	__u64 time;			/* ns, CLOCK_MONOTONIC */
	__u64 duration;			/* ns */
	__u64 connect;			/* ns from SYN to established, 0 = never or not known */
	__u64 cgroup;
	__u64 cookie;
	__u64 sent;
	__u64 received;
	struct address local;
	struct address remote;		/* the address actually spoken to */
	struct address dialled;
	__be16 local_port;
	__be16 remote_port;
	__be16 dialled_port;
	__u16 error;			/* errno of a failed connection */
	__u32 source;
	__u32 destination;
	__u32 service;
	__u32 rule;
	__u32 retransmits;
	__u32 round_trip;		/* smoothed, microseconds */
	__u8 protocol;
	__u8 direction;
	__u8 verdict;
	__u8 reason;
	__u8 path;
	__u8 hook;
	__u8 state;			/* STATE_* */
	__u8 cut;			/* REASON_*, as in struct flow */
	__u8 flags;			/* FLOW_* */
	__u8 pad[3];
	__u32 claim;			/* as in struct flow */
};

#define STATE_CLOSED		1
#define STATE_FAILED		2
#define STATE_DENIED		3

/*
 * interfaces[index, address]: whose address it is, behind the host's end of a pod's interface; the
 * unspecified address of a family stands for whoever is behind the interface.
 */
struct interface_key {
	__u32 index;
	struct address address;
};

struct interface {
	__u64 cgroup;
	__u32 identity;
	__u32 class;			/* policy class when speaking this family */
	__u32 flags;			/* END_* */
	__s32 netns;			/* the pod's network namespace, as the node's own numbers it */
	__u8 level;			/* of the cgroup */
	__u8 pad[7];
};

/* Two ends at an interface; local is the one on this side of the network. */
struct tuple {
	struct address local;
	struct address remote;
	__be16 local_port;
	__be16 remote_port;
	__u8 protocol;
	__u8 pad[3];
};

/* crossings[tuple]: what was let through at a pod's interface, until policy changes. */
struct crossing {
	__u32 epoch;			/* policy_epoch under which it was */
	__u8 direction;			/* who began it */
	__u8 captured;			/* the socket hooks answer for it */
	__u8 pad[2];
};

/* fragments[...]: first fragments that were let through, so that the others may follow. */
struct fragment_key {
	struct address source;
	struct address destination;
	__be32 identification;
	__u8 protocol;
	__u8 pad[3];
};

/* domains[name]: the pattern that a name fits, or with `wildcard` every name below it. */
struct domain_key {
	__u64 hash;			/* see dns.c */
	__u8 wildcard;
	__u8 pad[7];
};

/* learnt[address]: the patterns of the names that it was resolved from, 0 ends the list. */
#define LEARNT_PATTERNS		4

struct learnt {
	__u64 expires;			/* ns, CLOCK_MONOTONIC */
	__u32 patterns[LEARNT_PATTERNS];
};

#define NAME_GRACE_SECONDS	60	/* how long an address outlives its record's time to live */

/* calls[i]: programs that others end in. */
#define CALL_DNS		0
#define CALL_DNS_NAME		1
#define CALL_DNS_RECORDS	2
#define CALL_SYN		3
#define CALL_DATAGRAM		4
#define CALL_MAX		5

/* Room for one name, too big for the stack. */
struct name {
	__u64 hashes[256];
	__u64 expires;
	struct learnt fresh;
	struct address address;
	__u32 patterns[LEARNT_PATTERNS];
	__u32 count;			/* of patterns */
	__u32 used;
	__u32 labels;
	__u32 length;
	__u32 left;			/* records */
	__u32 at;			/* in the packet */
	__u8 bytes[256];
	__u8 starts[256];		/* of labels */
};

/*
 * affinities[client, service]: where a client's newest connection went. A client is a network
 * namespace, which stands for its addresses; a service has other backends for each family.
 */
struct affinity_key {
	__u64 client;			/* cookie of the network namespace */
	__u32 service;
	__u32 family;
};

struct affinity {
	__u64 used;			/* ns */
	__u32 backend;
	__u32 pad;
};

/* outliers[backend]: one that did not take connections. */
struct outlier {
	__u64 until;			/* ns: it is out so long; 0 = it is in */
	__u64 failed;			/* ns: its newest failure */
	__u32 service;
	__u32 who;			/* the one identity that it fails, 0 = several: it is out for these */
	__u32 failures;			/* in a row */
	__u32 times;			/* ejections, one soon after the other */
};

/* ejections[service, family, end]: how many backends are out until then. */
struct ejection_key {
	__u32 service;
	__u32 family;
	__u32 ends;			/* in units of the service's eject_seconds */
};

/* limits[id]: what one caller of a service may do; guards[end]: the same at a backend's port. */
struct limit {
	__u64 interval;			/* ns between connections in the long run; 0 = any */
	__u64 tolerance;		/* ns that a burst may be ahead of that */
	__u32 most;			/* open connections; 0 = any number */
	__u32 id;
	__u32 rule;			/* the agent's number for the policy that says so */
	__u32 pad;
};

struct guard_key {
	__u64 cgroup;
	__be16 port;
	__u8 protocol;
	__u8 pad[5];
};

/*
 * allowances[hash of the caller]: what callers have used up of their limits, ALLOWANCE_WAYS of them
 * under one lock. A caller without an open connection may lose its place to another one.
 */
struct caller {
	__u32 limit;
	__u32 who;			/* identity and direction */
	struct address address;		/* of an identity that many share, otherwise 0 */
};

struct allowance {
	__u64 paid;			/* ns: when its connections so far were due in the long run */
	struct caller caller;
	__u32 open;
	__u32 window;			/* of time, see limits.h */
	__u32 handshakes[2];		/* begun in this window, and in the one before */
};

#define ALLOWANCE_WAYS		8

struct allowances {
	struct bpf_spin_lock lock;
	__u32 pad;
	struct allowance ways[ALLOWANCE_WAYS];
};

/* reserved[tuple]: a handshake that holds a place until the connection is established. */
struct reservation {
	__be32 sequence;		/* of the SYN */
	__u32 limit;
	__u32 window;
};

/*
 * node_keys[node, use, epochs]: what this node and another share, one key for each direction. Of the
 * keys that a node has published, `epochs` says which are behind it: the last two bits of the
 * sender's epoch and those of the receiver's. It is 0 in the id of the one key to send with.
 */
struct node_key_id {
	__u32 node;
	__u8 use;			/* KEY_* */
	__u8 epochs;
	__u16 pad;
};

#define KEY_SENDING		0
#define KEY_RECEIVING		1

struct node_key {
	__u64 key[2];
	__u8 epochs;
	__u8 pad[7];
};

#define IDENTITY_EXPERIMENT	0x4850	/* the first of 16 experiment ids (RFC 6994), by epochs */
#define IDENTITY_EPOCHS		0xf

/* losses[i]: what could not be recorded or tracked, so that every answer can say so. */
#define LOSS_EVENT		0	/* ring buffer full */
#define LOSS_PAIR		1	/* aggregate full: counters of a new pair are missing */
#define LOSS_FLOW		2	/* flow table full: a connection is not counted */
#define LOSS_ORIGIN		3	/* a redirected connection reached the proxy without its origin */
#define LOSS_NAME		4	/* a DNS answer was not learnt from, or not wholly */
#define LOSS_MAX		5

#endif
