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
#define VERDICT_AUDIT			4

#define DIRECTION_OUTBOUND		0
#define DIRECTION_INBOUND		1

#define PATH_DIRECT			0
#define PATH_PROXY			1

#define HOOK_NONE			0
#define HOOK_CONNECT			1
#define HOOK_SENDMSG			2
#define HOOK_INGRESS			3
#define HOOK_EGRESS			4
#define HOOK_VETH			5
#define HOOK_UPLINK			6

#define REASON_NONE			0
#define REASON_NOT_ENROLLED		1
#define REASON_NO_POLICY		2
#define REASON_POLICY_ALLOW		3
#define REASON_LOCAL_NODE		4
#define REASON_NODE_PROXY		5
#define REASON_WOULD_DENY		6
#define REASON_OPEN_BEFORE		7
#define REASON_EGRESS_DENIED		16
#define REASON_INGRESS_DENIED		17
#define REASON_NO_BACKEND		18
#define REASON_PROXY_DIRECT		19
#define REASON_POLICY_PENDING		20
#define REASON_STATE_FULL		21
#define REASON_SERVICE_PORT_UNKNOWN	22
#define REASON_QUARANTINED		23
#define REASON_ADMIN_DENIED		24
#define REASON_BASELINE_DENIED		25
#define REASON_AUTHORIZATION_DENIED	26
#define REASON_IDENTITY_REQUIRED	27
#define REASON_IDENTITY_FORGED		28
#define REASON_SOURCE_SPOOFED		29
#define REASON_RATE_LIMITED		30
#define REASON_CONCURRENCY_LIMITED	31
#define REASON_BLOCKED			32
#define REASON_MALFORMED		33
#define REASON_UNTRANSLATED		34

#define IDENTITY_UNKNOWN		0
#define IDENTITY_WORLD			1
#define IDENTITY_NODE			2
#define IDENTITY_PROXY			3

#endif
