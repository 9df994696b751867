/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The few constants that programs need from the kernel's own headers, which may not be there. */
#ifndef HOPLITE_KERNEL_H
#define HOPLITE_KERNEL_H

#define AF_INET			2
#define AF_INET6		10
#define SOL_IP			0
#define SOL_IPV6		41

#define SOCK_STREAM		1
#define SOCK_DGRAM		2

#define ETH_P_IP		0x0800
#define ETH_P_ARP		0x0806
#define ETH_P_IPV6		0x86dd

#define IPPROTO_HOPOPTS		0
#define IPPROTO_ICMP		1
#define IPPROTO_IGMP		2
#define IPPROTO_TCP		6
#define IPPROTO_UDP		17
#define IPPROTO_ROUTING		43
#define IPPROTO_FRAGMENT	44
#define IPPROTO_ICMPV6		58
#define IPPROTO_DSTOPTS		60

#define TC_ACT_UNSPEC		-1	/* let through, unless another program says otherwise */
#define TC_ACT_SHOT		2

#define EPERM			1
#define ENOENT			2
#define ENOMEM			12
#define EEXIST			17
#define EPROTO			71
#define ECONNREFUSED		111

#define NS_PER_SECOND		1000000000ULL

#ifndef barrier
#define barrier()		asm volatile("" ::: "memory")
#endif

#endif
