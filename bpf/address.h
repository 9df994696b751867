/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Addresses: 16 bytes, IPv4 as ::ffff:a.b.c.d. */

#define MAPPED_PREFIX	bpf_htonl(0xffff)

static __always_inline void address_from4(struct address *address, __be32 ip)
{
	address->ip[0] = 0;
	address->ip[1] = 0;
	address->ip[2] = MAPPED_PREFIX;
	address->ip[3] = ip;
}

static __always_inline bool address_is4(const struct address *address)
{
	return !address->ip[0] && !address->ip[1] && address->ip[2] == MAPPED_PREFIX;
}

static __always_inline bool address_same(const struct address *a, const struct address *b)
{
	return a->ip[0] == b->ip[0] && a->ip[1] == b->ip[1] && a->ip[2] == b->ip[2] &&
	       a->ip[3] == b->ip[3];
}

/* 127.0.0.0/8, ::1, and the unspecified addresses, which connect() takes for loopback. */
static __always_inline bool address_is_loopback(const struct address *address)
{
	if (address_is4(address))
		return (address->ip[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000) ||
		       !address->ip[3];
	return !address->ip[0] && !address->ip[1] && !address->ip[2] &&
	       (address->ip[3] == bpf_htonl(1) || !address->ip[3]);
}
