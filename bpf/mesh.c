/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The datapath, in the order in which a connection meets it. This file is the table of contents;
 * the loader pastes the included files into one text (BCC rewrites map calls in the main file only).
 */
#define BPF_LICENSE Dual BSD/GPL
#include <uapi/linux/bpf.h>

#include "kernel.h"	/* constants that would otherwise need kernel headers */
#include "types.h"	/* structures shared with user space */
#include "reason.h"	/* verdicts and numbered reasons */
#include "maps.h"	/* the kernel maps and their accessors */

#include "address.h"	/* IPv4 and IPv6 as one */
#include "capture.h"	/* whose socket, and who is at the other end */
#include "service.h"	/* service -> slot table -> backend */
#include "affinity.h"	/* the backend that a client has already */
#include "ejection.h"	/* backends that do not take connections */
#include "balance.h"	/* the backend of a new connection */
#include "policy.h"	/* verdict */
#include "blocklist.h"	/* addresses that nobody talks to */
#include "names.h"	/* verdict, for addresses with names */
#include "limits.h"	/* how fast and how many */
#include "siphash.h"	/* SipHash-2-4 */
#include "identity.h"	/* who calls from another node, in the SYN */
#include "flow.h"	/* aggregate and events */
#include "exchange.h"	/* UDP: a socket and one peer */

#include "connect.c"	/* mesh_connect4, mesh_connect6 */
#include "datagram.c"	/* mesh_sendmsg4/6, mesh_recvmsg4/6 */
#include "peername.c"	/* mesh_getpeername4, mesh_getpeername6 */
#include "ingress.c"	/* mesh_ingress, mesh_egress */
#include "inbound.c"	/* mesh_syn, mesh_datagram */
#include "dns.c"	/* mesh_dns, mesh_dns_name, mesh_dns_records */
#include "sockops.c"	/* mesh_sockops, mesh_release */
#include "proxy.c"	/* proxy_sockops, proxy_getsockopt, proxy_getpeername4/6 */

#include "bind.c"	/* mesh_bind4, mesh_bind6 */
#include "frame.h"	/* a packet at an interface */
#include "crossing.h"	/* whose packet it is there, and what policy says */
#include "veth.c"	/* veth_from_pod, veth_to_pod */
#include "uplink.c"	/* uplink_ingress, uplink_egress */
