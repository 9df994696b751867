"""A flow: one connection's record, as the API and the command line show it.

The model follows Hubble's ``flow.Flow`` (verdict, drop reason, identities, labels, l4, direction,
time) in Hoplite's vocabulary. Times are RFC 3339 in UTC; sizes are bytes; durations milliseconds.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from meshapi.resources.meta import SparsePart

PROTOCOLS = {  # by number (IANA), but for the last
    1: "ICMP",
    2: "IGMP",
    6: "TCP",
    17: "UDP",
    47: "GRE",
    50: "ESP",
    51: "AH",
    58: "ICMP6",
    132: "SCTP",
    255: "NOT-IP",
}

EndpointKind = Literal["workload", "service", "node", "proxy", "world", "unknown"]


class FlowEndpoint(SparsePart, frozen=True):
    """One end: a workload where it is known, otherwise what the address says."""

    kind: EndpointKind = "unknown"
    namespace: str = ""
    name: str = ""
    app: str = ""
    node: str = ""
    identity: int = 0
    spiffe_id: str = msgspec.field(default="", name="spiffeID")
    address: str = ""
    port: int = 0


class FlowService(SparsePart, frozen=True):
    """The service that the application dialled, and the address it dialled it by."""

    namespace: str = ""
    name: str = ""
    address: str = ""
    port: int = 0


class Flow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``time`` is when the record was made: at close, at refusal, or when a UDP flow went idle.

    ``protocol`` is TCP, UDP or, of refused packets, any of PROTOCOLS or a number.
    ``authenticated``: the SYN carried the caller's identity; inbound, it has been verified.
    """

    time: str
    node: str
    direction: Literal["outbound", "inbound"]
    protocol: str
    verdict: Literal["PASS", "ALLOW", "DENY", "REDIRECT", "AUDIT"]
    reason: str
    reason_code: int
    path: Literal["direct", "proxy"]
    source: FlowEndpoint
    destination: FlowEndpoint
    state: Literal["open", "closed", "failed", "denied", "cut"]
    service: FlowService | None = None
    policy: str = ""
    policy_kind: str = ""
    rule: str = ""
    hook: str = ""
    authenticated: bool = False
    bytes_sent: int = 0
    bytes_received: int = 0
    duration_ms: float = 0.0
    connect_ms: float | None = None
    retransmits: int = 0
    error: str = ""
    message: str = ""


class FlowQuery(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Which flows are wanted; every part that is given must hold.

    ``since`` and ``until`` are seconds since the epoch. ``source`` and ``destination`` are
    ``NAMESPACE/NAME`` or ``NAMESPACE/``; a name matches a workload, its app label or a service.
    """

    since: float | None = None
    until: float | None = None
    source: str = ""
    destination: str = ""
    verdict: str = ""
    direction: str = ""
    protocol: str = ""
    path: str = ""
    last: int | None = None


class FlowCoverage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What an answer covers on one node: what was lost and since when records exist."""

    node: str
    returned: int = 0
    lost: int = 0
    evicted: int = 0
    since: str = ""
    error: str = ""
