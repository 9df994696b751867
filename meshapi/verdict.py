"""Verdicts, directions and numbered reasons: one append-only list for C, API and metrics.

The numbers are written into kernel maps, stored flows and metrics: never renumber, never reuse.
``bpf/reason.h`` holds the same list; tests/bpf/test_layout.py compares the two.
"""

from __future__ import annotations

from enum import IntEnum


class Verdict(IntEnum):
    """What the kernel decided for a connection."""

    PASS = 0  # not ours: the socket is not enrolled
    ALLOW = 1
    DENY = 2
    REDIRECT = 3  # allowed, and sent to the node proxy
    AUDIT = 4  # allowed, though a policy in audit mode would refuse it


class Direction(IntEnum):
    """Which end of the connection made the record."""

    OUTBOUND = 0
    INBOUND = 1


class Path(IntEnum):
    """Whether the bytes went straight to the backend or through the node proxy."""

    DIRECT = 0
    PROXY = 1


class Hook(IntEnum):
    """Where in the kernel the verdict was made."""

    NONE = 0
    CONNECT = 1  # cgroup/connect4, connect6
    SENDMSG = 2  # cgroup/sendmsg4, sendmsg6 (unconnected UDP)
    INGRESS = 3  # cgroup_skb/ingress (SYN, UDP datagram)
    EGRESS = 4  # cgroup_skb/egress (datagrams of a connected UDP socket)
    VETH = 5  # the host's end of a pod's interface (what skipped the socket hooks)
    UPLINK = 6  # the node's own interface


class Reason(IntEnum):
    """Why. 1 to 15 let the connection go on, 16 and above refuse it."""

    NONE = 0
    NOT_ENROLLED = 1
    NO_POLICY = 2
    POLICY_ALLOW = 3
    LOCAL_NODE = 4
    NODE_PROXY = 5
    WOULD_DENY = 6
    OPEN_BEFORE = 7

    EGRESS_DENIED = 16
    INGRESS_DENIED = 17
    NO_BACKEND = 18
    PROXY_DIRECT = 19
    POLICY_PENDING = 20
    STATE_FULL = 21
    SERVICE_PORT_UNKNOWN = 22
    QUARANTINED = 23
    ADMIN_DENIED = 24
    BASELINE_DENIED = 25
    AUTHORIZATION_DENIED = 26
    IDENTITY_REQUIRED = 27
    IDENTITY_FORGED = 28
    SOURCE_SPOOFED = 29
    RATE_LIMITED = 30
    CONCURRENCY_LIMITED = 31
    BLOCKED = 32
    MALFORMED = 33
    UNTRANSLATED = 34


REASON_TEXT: dict[Reason, str] = {
    Reason.NONE: "no reason recorded",
    Reason.NOT_ENROLLED: "the socket does not belong to an enrolled workload",
    Reason.NO_POLICY: "no policy selects either end",
    Reason.POLICY_ALLOW: "a policy rule allows it",
    Reason.LOCAL_NODE: "the peer is this node itself",
    Reason.NODE_PROXY: "the peer is a node proxy, which has enforced policy already",
    Reason.WOULD_DENY: "a policy in audit mode would refuse it",
    Reason.OPEN_BEFORE: "it was open before its workload was enrolled",
    Reason.EGRESS_DENIED: "policies select the source for egress and no rule allows this",
    Reason.INGRESS_DENIED: "policies select the destination for ingress and no rule allows this",
    Reason.NO_BACKEND: "the service has no ready backend",
    Reason.PROXY_DIRECT: "the node proxy's port was dialled directly",
    Reason.POLICY_PENDING: "what policy says is not yet in the kernel's table; refused until it is",
    Reason.STATE_FULL: "a kernel table is full; refused because it could not be tracked",
    Reason.SERVICE_PORT_UNKNOWN: "the service has no such port",
    Reason.QUARANTINED: "one end is quarantined",
    Reason.ADMIN_DENIED: "a rule of a ClusterNetworkPolicy of the admin tier refuses it",
    Reason.BASELINE_DENIED: "a rule of a ClusterNetworkPolicy of the baseline tier refuses it",
    Reason.AUTHORIZATION_DENIED: "an AuthorizationPolicy refuses it, or none of those that "
    "allow matches",
    Reason.IDENTITY_REQUIRED: "the policy that allows it is strict, and the caller's identity "
    "could not be authenticated",
    Reason.IDENTITY_FORGED: "the identity that the SYN claims is not authentic",
    Reason.SOURCE_SPOOFED: "the source address is not one of the sender's own",
    Reason.RATE_LIMITED: "the caller opens connections faster than its limit",
    Reason.CONCURRENCY_LIMITED: "the caller has as many open connections as its limit allows",
    Reason.BLOCKED: "the address is on a block list",
    Reason.MALFORMED: "the packet cannot be understood",
    Reason.UNTRANSLATED: "a service's virtual address, by a packet that no socket hook has seen",
}
