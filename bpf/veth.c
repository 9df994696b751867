/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The host's end of a pod's interface (tc). Nothing gets past it, so here is decided about what has
 * skipped the socket hooks: raw and packet sockets, processes of other cgroups that have entered the
 * pod's network, and namespaces behind the pod. What the hooks have decided about leaves after a
 * look-up and a glance at the packet's socket.
 *
 * Stages return 0 to let the packet pass, or -errno with the reason in passage->decision.
 */

#define ND_ROUTER_SOLICITATION	133
#define ND_NEIGHBOUR_SOLICITATION 135
#define ND_NEIGHBOUR_ADVERTISEMENT 136
#define ND_REDIRECT		137
#define ND_HOPS			255	/* has not been routed (RFC 4861) */

#define PROTOCOL_NOT_IP		255	/* what flows show for frames that are not IP */

static __always_inline bool address_is_multicast(const struct address *address)
{
	if (address_is4(address))
		return (address->ip[3] & bpf_htonl(0xf0000000)) == bpf_htonl(0xe0000000);
	return (address->ip[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000);
}

static __always_inline bool address_is_link_local6(const struct address *address)
{
	return (address->ip[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

static __always_inline bool address_is_none(const struct address *address)
{
	return !address->ip[0] && !address->ip[1] && !address->ip[3] &&
	       (!address->ip[2] || address->ip[2] == MAPPED_PREFIX);
}

/* May a pod say that it has this address? */
static __always_inline bool address_is_own(u32 index, const struct address *address)
{
	return address_is_link_local6(address) || interface_at(index, address);
}

/* -- neighbours and groups: what the link itself needs ----------------------------------------- */

/* ARP (RFC 826): a pod speaks for its own addresses only. */
static __always_inline int arp_stage(struct __sk_buff *skb, struct passage *passage)
{
	struct tuple *tuple = &passage->frame.tuple;
	__be32 sender, target;
	__be16 kind[3];

	if (frame_bytes(skb, 0, kind, 6) || kind[1] != bpf_htons(ETH_P_IP) ||
	    kind[2] != bpf_htons(0x0604) || frame_bytes(skb, 14, &sender, 4) ||
	    frame_bytes(skb, 24, &target, 4))
		return passage_deny(passage, REASON_MALFORMED);
	address_from4(&tuple->local, sender);
	address_from4(&tuple->remote, target);
	if (interface_at(skb->ifindex, sender ? &tuple->local : &tuple->remote))
		return 0;
	return passage_deny(passage, REASON_SOURCE_SPOOFED);
}

static __always_inline bool frame_is_group_report(const struct frame *frame)
{
	if (frame->hops != 1 || !address_is_multicast(&frame->tuple.remote))
		return false;
	if (frame->v4)
		return frame->tuple.protocol == IPPROTO_IGMP;
	return frame_is_icmp(frame) && ((frame->icmp_type >= 130 && frame->icmp_type <= 132) ||
					frame->icmp_type == 143);
}

static __always_inline bool frame_is_neighbour(const struct frame *frame)
{
	return !frame->v4 && frame_is_icmp(frame) && frame->hops == ND_HOPS &&
	       frame->icmp_type >= ND_ROUTER_SOLICITATION && frame->icmp_type <= ND_REDIRECT;
}

/* Neighbour discovery from a pod; 1 if it is for policy to say. */
static __always_inline int neighbour_stage(struct __sk_buff *skb, struct passage *passage)
{
	const struct frame *frame = &passage->frame;
	struct address target;

	if (!address_is_multicast(&frame->tuple.remote) &&
	    !address_is_link_local6(&frame->tuple.remote))
		return 1;			/* it could be routed */
	if (frame->icmp_type == ND_ROUTER_SOLICITATION)
		return 0;
	if (frame->icmp_type != ND_NEIGHBOUR_SOLICITATION &&
	    frame->icmp_type != ND_NEIGHBOUR_ADVERTISEMENT)
		return passage_deny(passage, REASON_SOURCE_SPOOFED);	/* speaks as a router */
	if (frame->icmp_type == ND_NEIGHBOUR_SOLICITATION &&
	    !address_is_none(&frame->tuple.local))
		return 0;
	if (frame_bytes(skb, frame->transport + 8, &target, 16))
		return passage_deny(passage, REASON_MALFORMED);
	if (address_is_own(skb->ifindex, &target))
		return 0;
	return passage_deny(passage, REASON_SOURCE_SPOOFED);
}

/* An address that is nobody's in particular, but may be used on the link. */
static __always_inline bool source_is_links(const struct frame *frame)
{
	const struct tuple *tuple = &frame->tuple;

	if (frame->v4)
		return false;
	if (address_is_none(&tuple->local))	/* before it has an address */
		return (frame_is_neighbour(frame) && address_is_multicast(&tuple->remote)) ||
		       frame_is_group_report(frame);
	return address_is_link_local6(&tuple->local) &&
	       (address_is_link_local6(&tuple->remote) || address_is_multicast(&tuple->remote));
}

/* An ICMP error about a packet that the other end sent to this one. */
static __always_inline bool error_is_answer(struct __sk_buff *skb, const struct frame *frame)
{
	u32 quoted = frame->transport + 8;
	struct address from, to;
	__be32 ip[2];

	if (!frame->v4)
		return !frame_bytes(skb, quoted + 8, &from, 16) &&
		       !frame_bytes(skb, quoted + 24, &to, 16) &&
		       address_same(&from, &frame->tuple.remote) &&
		       address_same(&to, &frame->tuple.local);
	return !frame_bytes(skb, quoted + 12, ip, 8) && ip[0] == frame->tuple.remote.ip[3] &&
	       ip[1] == frame->tuple.local.ip[3];
}

/* -- from the pod ------------------------------------------------------------------------------ */

/* What has skipped the socket hooks: as the pod, packet by packet. */
static __always_inline int outbound_police(struct __sk_buff *skb, const struct settings *cfg,
					   struct passage *passage, bool owned)
{
	const struct frame *frame = &passage->frame;
	struct crossing *known = crossing_at(&passage->frame.tuple);
	bool quarantined = passage->pod.flags & END_QUARANTINED, inbound;
	struct decision decision = {};
	struct peer peer = {};

	if (known && known->epoch == passage->epoch && !quarantined)
		return 0;
	inbound = known && known->direction == DIRECTION_INBOUND;
	if (passage_allows(cfg, passage, true, &passage->peer, &passage->decision))
		return crossing_note(passage, DIRECTION_OUTBOUND, false);
	if (frame_begins(frame))
		return -EPERM;
	/* Then it may be an answer. What the destination lets in, its own node decides. */
	if (!owned && !inbound && (quarantined || passage->pod.flags & END_EGRESS) &&
	    (frame->tuple.protocol != IPPROTO_TCP || socket_is_pods(skb, passage) ||
	     !socket_answers(skb, passage)))
		return -EPERM;
	if (!passage_allows(cfg, passage, false, &peer, &decision))
		return -EPERM;
	return inbound ? crossing_note(passage, DIRECTION_INBOUND, false) : 0;
}

static __always_inline bool outbound_closed(const struct passage *passage)
{
	return passage->pod.flags & (END_EGRESS | END_QUARANTINED) ||
	       passage->peer.flags & END_INGRESS;
}

static __always_inline int outbound_stage(struct __sk_buff *skb, const struct settings *cfg,
					  struct passage *passage, int error)
{
	struct frame *frame = &passage->frame;
	struct tuple *tuple = &frame->tuple;
	struct endpoint to = { .port = tuple->remote_port, .protocol = tuple->protocol };
	bool quarantined = passage->pod.flags & END_QUARANTINED, owned;

	owned = !error && ((tuple->protocol == IPPROTO_TCP &&
			    socket_speaks(skb, frame, passage->cgroup, passage->level)) ||
			   (tuple->protocol == IPPROTO_UDP &&
			    socket_sends(skb, frame, passage->cgroup, passage->level)));
	if (owned && !quarantined) {
		if (tuple->protocol == IPPROTO_UDP)
			crossing_note(passage, DIRECTION_OUTBOUND, true);
		return 0;
	}
	to.address = tuple->remote;
	if (frame->mapped || address_is_loopback(&tuple->remote))
		return passage_deny(passage, REASON_MALFORMED);
	if (error)
		return outbound_closed(passage) ? passage_deny(passage, REASON_MALFORMED) : 0;
	if (frame->part == FRAME_LATER)
		return fragment_follows(frame) || !outbound_closed(passage) ?
			       0 : passage_deny(passage, REASON_MALFORMED);
	if (!quarantined && frame_is_icmp_error(frame) && !socket_is_pods(skb, passage) &&
	    error_is_answer(skb, frame))
		return 0;
	if (!owned && dials_proxy(cfg, &to))
		return passage_deny(passage, REASON_PROXY_DIRECT);
	if (passage->peer.flags & END_VIP)
		return passage_deny(passage, REASON_UNTRANSLATED);
	if (decision_blocked(cfg, &tuple->remote, &passage->decision))
		return -EPERM;
	return outbound_police(skb, cfg, passage, owned);
}

/* Who sends this, and may it say so? */
static __always_inline int source_stage(struct __sk_buff *skb, const struct settings *cfg,
					struct passage *passage)
{
	struct frame *frame = &passage->frame;
	struct endpoint to = {};
	struct interface *own;
	int error, said;

	if (skb->vlan_present || (skb->protocol != bpf_htons(ETH_P_IP) &&
				  skb->protocol != bpf_htons(ETH_P_IPV6))) {
		frame->tuple.protocol = PROTOCOL_NOT_IP;
		if (!skb->vlan_present && skb->protocol == bpf_htons(ETH_P_ARP))
			return arp_stage(skb, passage);
		return passage_deny(passage, REASON_MALFORMED);
	}
	error = frame_parse(skb, true, frame);
	to.address = frame->tuple.remote;
	to.port = frame->tuple.remote_port;
	to.protocol = frame->tuple.protocol;
	peer_find(&to, false, true, &passage->peer);
	own = frame->mapped ? NULL : interface_at(skb->ifindex, &frame->tuple.local);
	if (own && !address_is_none(&frame->tuple.local))
		passage_of(own, passage);
	else if (error || !source_is_links(frame))
		return passage_deny(passage, REASON_SOURCE_SPOOFED);
	if (!error && frame_is_group_report(frame) && !socket_is_pods(skb, passage))
		return 0;
	if (!error && frame_is_neighbour(frame)) {
		said = neighbour_stage(skb, passage);
		if (said <= 0)
			return said;
	}
	if (passage->pod.flags & END_BLOCKED)
		return passage_deny(passage, REASON_BLOCKED);
	return outbound_stage(skb, cfg, passage, error);
}

static __always_inline int passage_tell(struct __sk_buff *skb, const struct settings *cfg,
					struct passage *passage, int result)
{
	struct peer pod = { .identity = passage->pod.identity };

	if (!result) {
		if (passage->frame.part == FRAME_FIRST)
			fragment_note(&passage->frame);
		return TC_ACT_UNSPEC;
	}
	frame_refused(cfg, &passage->frame, &pod, &passage->peer, &passage->decision,
		      passage->cgroup, skb->ifindex, HOOK_VETH);
	return TC_ACT_SHOT;
}

/* Nearly everything: a packet of a socket that the hooks have decided about. */
static __always_inline bool outbound_glance(struct __sk_buff *skb, const struct settings *cfg)
{
	struct frame frame = {};
	struct crossing *known;
	struct interface *own;

	if (!frame_glance(skb, true, &frame))
		return false;
	own = interface_again(cfg, skb->ifindex, &frame.tuple.local);
	if (!own || own->flags & END_CUT || address_is_none(&frame.tuple.local))
		return false;
	if (frame.tuple.protocol == IPPROTO_TCP)
		return socket_speaks(skb, &frame, own->cgroup, own->level);
	known = crossing_at(&frame.tuple);
	return known && known->epoch == cfg->policy_epoch;
}

int veth_from_pod(struct __sk_buff *skb)
{
	struct settings *cfg = settings_get();
	struct passage *passage;
	struct interface *owner;
	u32 epoch;

	if (!cfg || outbound_glance(skb, cfg))
		return TC_ACT_UNSPEC;
	epoch = policy_now(cfg);
	owner = interface_owner(skb->ifindex, skb->protocol != bpf_htons(ETH_P_IPV6));
	passage = scratch_zeroed();
	if (!owner || !passage)
		return TC_ACT_UNSPEC;
	passage->epoch = epoch;
	passage->frame.outbound = true;
	passage_of(owner, passage);
	return passage_tell(skb, cfg, passage, source_stage(skb, cfg, passage));
}

/* -- to the pod -------------------------------------------------------------------------------- */

static __always_inline int inbound_police(struct __sk_buff *skb, const struct settings *cfg,
					  struct passage *passage, bool own)
{
	const struct frame *frame = &passage->frame;
	struct crossing *known = crossing_at(&passage->frame.tuple);
	bool quarantined = passage->pod.flags & END_QUARANTINED, outbound;
	struct decision decision = {};
	struct peer peer = {};

	if (known && !quarantined && (known->captured || known->epoch == passage->epoch))
		return 0;
	outbound = known && known->direction == DIRECTION_OUTBOUND;
	if (own && !quarantined && (frame->tuple.protocol == IPPROTO_TCP ||
				    frame->tuple.protocol == IPPROTO_UDP) &&
	    socket_receives(skb, frame, passage->cgroup, passage->netns))
		return 0;
	if (passage_allows(cfg, passage, false, &passage->peer, &passage->decision)) {
		if (!(passage->decision.flags & DECISION_STRICT) ||
		    passage->peer.flags & END_LOCAL)
			return crossing_note(passage, DIRECTION_INBOUND, false);
		return passage_deny(passage, REASON_IDENTITY_REQUIRED);
	}
	if (!outbound || frame_begins(frame) || !passage_allows(cfg, passage, true, &peer, &decision))
		return -EPERM;
	return crossing_note(passage, DIRECTION_OUTBOUND, false);
}

static __always_inline int inbound_stage(struct __sk_buff *skb, const struct settings *cfg,
					 struct passage *passage, bool own, int error)
{
	const struct frame *frame = &passage->frame;
	bool quarantined = passage->pod.flags & END_QUARANTINED;
	bool closed = passage->pod.flags & (END_INGRESS | END_QUARANTINED);
	struct endpoint from = { .port = frame->tuple.remote_port };

	from.address = frame->tuple.remote;
	peer_find(&from, false, false, &passage->peer);
	if (passage->pod.flags & END_BLOCKED)
		return passage_deny(passage, REASON_BLOCKED);
	if (frame_feigns_node(skb, frame))
		return passage_deny(passage, REASON_SOURCE_SPOOFED);
	if (error || frame->mapped)
		return closed ? passage_deny(passage, REASON_MALFORMED) : 0;
	if (frame->part == FRAME_LATER)
		return fragment_follows(frame) || !closed ?
			       0 : passage_deny(passage, REASON_MALFORMED);
	if (!quarantined && (frame_is_icmp_error(frame) ||
			     (frame->tuple.protocol == IPPROTO_TCP && !frame_begins(frame))))
		return 0;
	return inbound_police(skb, cfg, passage, own);
}

static __always_inline int destination_stage(struct __sk_buff *skb, const struct settings *cfg,
					     struct passage *passage)
{
	bool v4 = skb->protocol == bpf_htons(ETH_P_IP);
	struct frame *frame = &passage->frame;
	struct interface *owner;
	bool own = true;
	int error;

	if (!v4 && skb->protocol != bpf_htons(ETH_P_IPV6)) {
		owner = interface_owner(skb->ifindex, true);
		if (!owner || skb->protocol == bpf_htons(ETH_P_ARP) ||
		    !(owner->flags & (END_INGRESS | END_CUT)))
			return 0;
		frame->tuple.protocol = PROTOCOL_NOT_IP;
		passage_of(owner, passage);
		return passage_deny(passage, REASON_MALFORMED);
	}
	error = frame_parse(skb, false, frame);
	owner = interface_at(skb->ifindex, &frame->tuple.local);
	if (!owner) {
		own = false;			/* to a group, or through the pod */
		owner = interface_owner(skb->ifindex, v4);
	}
	if (!owner || !(owner->flags & END_CLOSED))
		return 0;
	passage_of(owner, passage);
	if (!error && (frame_is_neighbour(frame) || frame_is_group_report(frame)))
		return 0;
	return inbound_stage(skb, cfg, passage, own, error);
}

/*
 * An open pod's packets, after one look-up; established connections without any; and what
 * mesh_ingress will decide about.
 */
static __always_inline bool inbound_glance(struct __sk_buff *skb, const struct settings *cfg)
{
	struct frame frame = {};
	struct crossing *known;
	struct interface *own;

	if (!frame_glance(skb, false, &frame))
		return false;
	if (frame.tuple.protocol == IPPROTO_TCP && !(frame.tcp_flags & TCP_FLAG_SYN) &&
	    !(cfg->flags & (SETTINGS_QUARANTINE | SETTINGS_BLOCKED)))
		return true;
	own = interface_again(cfg, skb->ifindex, &frame.tuple.local);
	if (!own || own->flags & END_CUT)
		return false;
	if (!(own->flags & END_CLOSED))
		return true;
	if (frame_feigns_node(skb, &frame))
		return false;
	if (frame.tuple.protocol == IPPROTO_TCP)
		return !frame_begins(&frame) ||
		       socket_receives(skb, &frame, own->cgroup, own->netns);
	known = crossing_at(&frame.tuple);
	return known && (known->captured || known->epoch == cfg->policy_epoch);
}

int veth_to_pod(struct __sk_buff *skb)
{
	struct settings *cfg = settings_get();
	struct passage *passage;

	if (!cfg || inbound_glance(skb, cfg))
		return TC_ACT_UNSPEC;
	passage = scratch_zeroed();
	if (!passage)
		return TC_ACT_UNSPEC;
	passage->epoch = policy_now(cfg);
	return passage_tell(skb, cfg, passage, destination_stage(skb, cfg, passage));
}
