/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A packet as it crosses an interface. Offsets count from the network header, so that interfaces
 * with and without an Ethernet header are read alike.
 */

#define TCP_FLAG_RST	0x04

#define FRAME_WHOLE	0
#define FRAME_FIRST	1		/* the first fragment: has the ports */
#define FRAME_LATER	2		/* any other fragment: has none */

#define ICMP_ECHO_REPLY		0
#define ICMP_UNREACHABLE	3
#define ICMP_ECHO		8
#define ICMP_TIME_EXCEEDED	11
#define ICMP_PARAMETER_PROBLEM	12
#define ICMP6_LAST_ERROR	127
#define ICMP6_ECHO		128
#define ICMP6_ECHO_REPLY	129

#define EXTENSION_HEADERS	6	/* more than anybody needs; a longer chain is malformed */

/*
 * `local` is the end behind this interface for traffic that leaves through it to the node, and so on:
 * outbound is what local sends. An echo request and its reply have the same ports: the identifier,
 * and which of the two ends asks.
 */
struct frame {
	struct tuple tuple;
	__be32 sequence;		/* TCP */
	__be32 identification;		/* of a fragment */
	u32 transport;			/* offset of the transport header */
	u8 part;			/* FRAME_* */
	u8 tcp_flags;
	u8 icmp_type;
	u8 hops;			/* TTL, hop limit */
	bool v4;
	bool outbound;
	bool empty;			/* TCP: carries no payload */
	bool mapped;			/* IPv6 with an IPv4-mapped address, which no packet may have */
};

static __always_inline int frame_bytes(struct __sk_buff *skb, u32 offset, void *to, u32 length)
{
	return bpf_skb_load_bytes_relative(skb, offset, to, length, BPF_HDR_START_NET) ? -EPROTO : 0;
}

static __always_inline void frame_ports(struct frame *frame, bool outbound, __be16 source,
					__be16 destination)
{
	frame->tuple.local_port = outbound ? source : destination;
	frame->tuple.remote_port = outbound ? destination : source;
}

/*
 * The packets that make up nearly all traffic, read in place: IPv4 without options, IPv6 without
 * extension headers, TCP or UDP, not a fragment. False for any other; then nothing of `frame` counts.
 */
static __always_inline bool frame_glance(struct __sk_buff *skb, bool outbound, struct frame *frame)
{
	u8 *data = (u8 *)(long)skb->data, *end = (u8 *)(long)skb->data_end, *transport;
	struct address *source = outbound ? &frame->tuple.local : &frame->tuple.remote;
	struct address *destination = outbound ? &frame->tuple.remote : &frame->tuple.local;

	data += 14;
	if (skb->vlan_present)
		return false;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (data + 28 > end || data[0] != 0x45 || *(u16 *)(data + 6) & bpf_htons(0x3fff))
			return false;
		frame->v4 = true;
		address_from4(source, *(__be32 *)(data + 12));
		address_from4(destination, *(__be32 *)(data + 16));
		frame->tuple.protocol = data[9];
		transport = data + 20;
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		if (data + 48 > end || data[0] >> 4 != 6)
			return false;
		__builtin_memcpy(source, data + 8, 16);
		__builtin_memcpy(destination, data + 24, 16);
		if (address_is4(source) || address_is4(destination))
			return false;
		frame->tuple.protocol = data[6];
		transport = data + 40;
	} else {
		return false;
	}
	if (frame->tuple.protocol == IPPROTO_TCP) {
		if (transport + 20 > end)
			return false;
		frame->tcp_flags = transport[13];
	} else if (frame->tuple.protocol != IPPROTO_UDP) {
		return false;
	}
	frame_ports(frame, outbound, *(__be16 *)transport, *(__be16 *)(transport + 2));
	return true;
}

/*
 * IPv4 header; the transport's length goes to `rest`. A sender that chooses the packet's way could
 * lead it past what the destination says, so there are no options but in group reports.
 */
static __always_inline int network4_parse(struct __sk_buff *skb, bool outbound, struct frame *frame,
					  u32 *rest)
{
	u8 header[20];
	u32 length;
	u16 fragment;

	if (frame_bytes(skb, 0, header, 20))
		return -EPROTO;
	frame->v4 = true;
	address_from4(outbound ? &frame->tuple.local : &frame->tuple.remote,
		      *(__be32 *)(header + 12));
	address_from4(outbound ? &frame->tuple.remote : &frame->tuple.local,
		      *(__be32 *)(header + 16));
	frame->tuple.protocol = header[9];
	frame->hops = header[8];
	length = (header[0] & 15) * 4;
	if (header[0] >> 4 != 4 || length < 20)
		return -EPROTO;
	fragment = bpf_ntohs(*(__be16 *)(header + 6));
	if (fragment & 0x3fff) {
		frame->identification = *(__be16 *)(header + 4);
		frame->part = fragment & 0x1fff ? FRAME_LATER : FRAME_FIRST;
		/* One that would write over the first one's TCP header. */
		if (frame->tuple.protocol == IPPROTO_TCP && fragment & 0x1fff &&
		    (fragment & 0x1fff) < 3)
			return -EPROTO;
	}
	if (length > 20 && frame->tuple.protocol != IPPROTO_IGMP)
		return -EPROTO;
	frame->transport = length;
	*rest = bpf_ntohs(*(__be16 *)(header + 2)) - length;
	return 0;
}

/* IPv6 header and extension headers (RFC 8200, section 4). */
static __always_inline int network6_parse(struct __sk_buff *skb, bool outbound, struct frame *frame,
					  u32 *rest)
{
	struct address *source = outbound ? &frame->tuple.local : &frame->tuple.remote;
	struct address *destination = outbound ? &frame->tuple.remote : &frame->tuple.local;
	u8 header[40], next;
	u32 offset = 40, payload;

	if (frame_bytes(skb, 0, header, 40))
		return -EPROTO;
	__builtin_memcpy(source, header + 8, 16);
	__builtin_memcpy(destination, header + 24, 16);
	frame->mapped = address_is4(source) || address_is4(destination);
	frame->hops = header[7];
	payload = bpf_ntohs(*(__be16 *)(header + 4));
	next = header[6];
	if (header[0] >> 4 != 6)
		return -EPROTO;
	for (int i = 0; i < EXTENSION_HEADERS; i++) {
		u8 extension[8];

		frame->tuple.protocol = next;
		frame->transport = offset;
		*rest = payload + 40 - offset;
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING &&
		    next != IPPROTO_DSTOPTS && next != IPPROTO_FRAGMENT)
			return 0;
		if (frame_bytes(skb, offset, extension, 8))
			return -EPROTO;
		if (next == IPPROTO_ROUTING && extension[3])	/* segments left */
			return -EPROTO;
		if (next != IPPROTO_FRAGMENT) {
			next = extension[0];
			offset += (extension[1] + 1) * 8;
			continue;
		}
		next = extension[0];
		offset += 8;
		u16 fragment = bpf_ntohs(*(__be16 *)(extension + 2));

		if (!(fragment & 0xfff9))	/* all of it in one */
			continue;
		frame->identification = *(__be32 *)(extension + 4);
		frame->part = fragment & 0xfff8 ? FRAME_LATER : FRAME_FIRST;
		if (frame->part == FRAME_LATER) {
			frame->tuple.protocol = next;
			return next == IPPROTO_TCP && fragment >> 3 < 3 ? -EPROTO : 0;
		}
	}
	return -EPROTO;
}

static __always_inline bool icmp_is_echo(const struct frame *frame)
{
	return frame->v4 ? frame->icmp_type == ICMP_ECHO || frame->icmp_type == ICMP_ECHO_REPLY :
			   frame->icmp_type == ICMP6_ECHO || frame->icmp_type == ICMP6_ECHO_REPLY;
}

static __always_inline bool frame_is_icmp(const struct frame *frame)
{
	return frame->tuple.protocol == (frame->v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
}

static __always_inline bool frame_is_echo_request(const struct frame *frame)
{
	return frame_is_icmp(frame) && frame->icmp_type == (frame->v4 ? ICMP_ECHO : ICMP6_ECHO);
}

/* What the network says about a packet; the packet that it is about follows. */
static __always_inline bool frame_is_icmp_error(const struct frame *frame)
{
	if (!frame_is_icmp(frame) || frame->part == FRAME_LATER)
		return false;
	if (!frame->v4)
		return frame->icmp_type && frame->icmp_type <= ICMP6_LAST_ERROR;
	return frame->icmp_type == ICMP_UNREACHABLE || frame->icmp_type == ICMP_TIME_EXCEEDED ||
	       frame->icmp_type == ICMP_PARAMETER_PROBLEM;
}

/* The first packet of a connection, as far as it can be told from the packet. */
static __always_inline bool frame_begins(const struct frame *frame)
{
	if (frame->tuple.protocol == IPPROTO_TCP)
		return (frame->tcp_flags & (TCP_FLAG_SYN | TCP_FLAG_ACK)) == TCP_FLAG_SYN;
	return frame_is_echo_request(frame);
}

static __always_inline int transport_parse(struct __sk_buff *skb, bool outbound,
					   struct frame *frame, u32 rest)
{
	u8 header[20];

	if (frame->part == FRAME_LATER)
		return 0;
	if (frame->tuple.protocol == IPPROTO_TCP) {
		if (frame_bytes(skb, frame->transport, header, 20))
			return -EPROTO;
		frame->sequence = *(__be32 *)(header + 4);
		frame->tcp_flags = header[13];
		frame->empty = rest == (header[12] >> 4) * 4;
	} else if (frame->tuple.protocol == IPPROTO_UDP || frame_is_icmp(frame)) {
		if (frame_bytes(skb, frame->transport, header, 8))
			return -EPROTO;
	} else {
		return 0;
	}
	if (!frame_is_icmp(frame)) {
		frame_ports(frame, outbound, *(__be16 *)header, *(__be16 *)(header + 2));
		return 0;
	}
	frame->icmp_type = header[0];
	if (icmp_is_echo(frame)) {
		frame->tuple.local_port = *(__be16 *)(header + 4);
		frame->tuple.remote_port =
			frame_is_echo_request(frame) == outbound ? bpf_htons(1) : bpf_htons(2);
	}
	return 0;
}

/*
 * 0, or -EPROTO for a packet that cannot be understood; what was understood of it stands. `outbound`
 * is a constant wherever this is called.
 */
static __always_inline int frame_parse(struct __sk_buff *skb, bool outbound, struct frame *frame)
{
	u32 rest = 0;
	int error;

	frame->outbound = outbound;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		error = network4_parse(skb, outbound, frame, &rest);
	else
		error = network6_parse(skb, outbound, frame, &rest);
	return error ? error : transport_parse(skb, outbound, frame, rest);
}
