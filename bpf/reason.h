/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Verdicts, reasons and the other small numbers that kernel and user space share.
 * Append only: meshapi/verdict.py holds the same list, tests/bpf/test_layout.py compares the two.
 */
#ifndef HOPLITE_REASON_H
#define HOPLITE_REASON_H

#define VERDICT_PASS			0
#define VERDICT_ALLOW			1
#define VERDICT_DENY			2
#define VERDICT_REDIRECT		3

#define DIRECTION_OUTBOUND		0
#define DIRECTION_INBOUND		1

#define PATH_DIRECT			0
#define PATH_PROXY			1

#define HOOK_NONE			0
#define HOOK_CONNECT			1
#define HOOK_SENDMSG			2
#define HOOK_INGRESS			3

#define REASON_NONE			0
#define REASON_NOT_ENROLLED		1
#define REASON_NO_POLICY		2
#define REASON_POLICY_ALLOW		3
#define REASON_LOCAL_NODE		4
#define REASON_NODE_PROXY		5
#define REASON_EGRESS_DENIED		16
#define REASON_INGRESS_DENIED		17
#define REASON_NO_BACKEND		18
#define REASON_PROXY_DIRECT		19
#define REASON_POLICY_PENDING		20
#define REASON_STATE_FULL		21
#define REASON_SERVICE_PORT_UNKNOWN	22

#define IDENTITY_UNKNOWN		0
#define IDENTITY_WORLD			1
#define IDENTITY_NODE			2
#define IDENTITY_PROXY			3

#endif
