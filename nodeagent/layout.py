"""The bytes that kernel and user space share: the Python side of bpf/types.h. Pure.

Every structure here has the same fields, order and size as its C twin; tests/bpf/test_layout.py
compares the two with the C compiler's offsets.
"""

from __future__ import annotations

import hashlib
import ipaddress
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntFlag
from typing import Any, NamedTuple

import msgspec

from meshapi import verdict


class End(IntFlag):
    """END_*: what is known of an end of a connection."""

    EGRESS = 1
    INGRESS = 2
    HOST = 4
    SHARED = 8
    LOCAL_NODE = 16
    PROXY = 32
    VIP = 64
    LOCAL = 128
    QUARANTINED = 256
    BLOCKED = 65536
    LIMITED = 4096
    RESTS = 32768


SETTINGS_L7 = 1
SETTINGS_QUARANTINE, SETTINGS_BLOCKED = 256, 512
SETTINGS_NAMES = 2
SETTINGS_IDENTITY = 4
SERVICE_LB = 0
SERVICE_REDIRECT = 1
STATE_NAMES = {1: "closed", 2: "failed", 3: "denied"}
LOSSES = ("event", "pair", "flow", "origin", "name")
PROTOCOLS = {"TCP": 6, "UDP": 17}
PORT_RULES_OTHER = 0  # stands for every other protocol
CLASS_ANY = 0xFFFFFFFF
DECISION_STRICT = 1
ALERTS = 1024  # one for each so many services on average

# name -> (struct format, names of the packed values); "16s" is an address, ">"-order ports are
# packed as two bytes ("2s") so that one native format serves the whole structure.
ADDRESS = struct.Struct("16s")
ENDPOINT = struct.Struct("=16s2sBx")
SETTINGS = struct.Struct("=16s16sQ2sHIII4sI")
SETTINGS_EPOCH, SETTINGS_SEED = 5, 9  # where these are among the packed values
WORKLOAD = struct.Struct("=IIIII")
RESIDENT_KEY = struct.Struct("=II")
PEER = struct.Struct("=IIII")
BLOCK_KEY = struct.Struct("=I16s")
SERVICE = struct.Struct("=IIIIIIIIHHH2x")
BACKEND = struct.Struct("=16s2sHIII")
SLOT_KEY = struct.Struct("=III")
SLOT = struct.Struct("=III")
SLOT_WEIGHT = struct.Struct("=II")  # what a slot table is numbered by: backends and weights
BACKEND_KEY = struct.Struct("=I")
POLICY_KEY = struct.Struct("=II")
DECISION = struct.Struct("=IIBBBx")
PORT_RULE_KEY = struct.Struct("=IIBx2s")
DOMAIN_KEY = struct.Struct("=QB7x")
LEARNT = struct.Struct("=Q4I")
# calls[i]: programs that others end in, by their place.
CALLS = ("mesh_dns", "mesh_dns_name", "mesh_dns_records", "mesh_syn", "mesh_datagram")
NAME_SIZE = 2648  # struct name: room for one, used by programs alone
FLOW = struct.Struct("=QQQQQ16s16s2s2sIIIIIIIIIIBBBBBBBBI")
ARRIVAL_SIZE = 64 + FLOW.size  # struct arrival: a packet and a flow, used by programs alone
DATAGRAM_KEY = struct.Struct("=Q16s2s6x")
SESSION = struct.Struct("=II")
PAIR = struct.Struct("=IIIIHBBBBBx")
COUNTERS = struct.Struct("=QQQQQQQQ")
INTERFACE_KEY = struct.Struct("=I16s")
INTERFACE = struct.Struct("=QIIIiB7x")
TUPLE = struct.Struct("=16s16s2s2sB3x")
CROSSING = struct.Struct("=IBB2x")
FRAGMENT_KEY = struct.Struct("=16s16sIB3x")
OUTLIER = struct.Struct("=QQIIII")
LIMIT = struct.Struct("=QQIII4x")
GUARD_KEY = struct.Struct("=Q2sB5x")
AFFINITY_KEY = struct.Struct("=QII")
AFFINITY = struct.Struct("=QI4x")
EJECTION_KEY = struct.Struct("=III")
# A set of allowances: its lock, and ALLOWANCE_WAYS callers.
ALLOWANCE = struct.Struct("=QII16sIIII")
ALLOWANCE_WAYS = 8
ALLOWANCES = struct.Struct("=8x" + ALLOWANCE.format.removeprefix("=") * ALLOWANCE_WAYS)
EVENT = struct.Struct("=QQQQQQQ16s16s16s2s2s2sHIIIIIIBBBBBBBBB3xI")
NODE_KEY_ID = struct.Struct("=IBB2x")
NODE_KEY = struct.Struct("=16sB7x")
KEY_SENDING, KEY_RECEIVING = 0, 1
FLOW_AUTHENTICATED, FLOW_STRICT = 1, 2

# The ring buffer puts a header of 8 bytes before each record (kernel/bpf/ringbuf.c).
RING_HEADER = 8


class Event(NamedTuple):
    """EVENT, unpacked; ports are still bytes in network order."""

    time: int
    duration: int
    connect: int
    cgroup: int
    cookie: int
    sent: int
    received: int
    local: bytes
    remote: bytes
    dialled: bytes
    local_port: bytes
    remote_port: bytes
    dialled_port: bytes
    error: int
    source: int
    destination: int
    service: int
    rule: int
    retransmits: int
    round_trip: int
    protocol: int
    direction: int
    verdict: int
    reason: int
    path: int
    hook: int
    state: int
    cut: int
    flags: int
    claim: int


class DatagramFlow(NamedTuple):
    """FLOW, unpacked."""

    started: int
    established: int
    cgroup: int
    sent: int
    received: int
    dialled: bytes
    actual: bytes
    dialled_port: bytes
    actual_port: bytes
    source: int
    destination: int
    source_class: int
    destination_class: int
    service: int
    backend: int
    rule: int
    epoch: int
    claim: int
    node: int
    protocol: int
    direction: int
    verdict: int
    reason: int
    path: int
    hook: int
    cut: int
    flags: int
    limit: int


class Service(NamedTuple):
    """SERVICE, unpacked."""

    id: int
    class_: int = 0
    slots: int = 0
    epoch: int = 0
    flags: int = 0
    action: int = SERVICE_LB
    limit: int = 0
    affinity: int = 0
    eject_after: int = 0
    eject_seconds: int = 0
    eject_most: int = 0


class Outlier(NamedTuple):
    """OUTLIER, unpacked."""

    until: int
    failed: int
    service: int
    who: int
    failures: int
    times: int


class Allowance(NamedTuple):
    """ALLOWANCE, unpacked: what one caller has used up of a limit."""

    paid: int
    limit: int
    who: int
    address: bytes
    open: int
    window: int
    handshakes: int
    handshakes_before: int


class Pair(NamedTuple):
    """PAIR, unpacked: what a set of counters is about."""

    source: int
    destination: int
    service: int
    rule: int
    port: int
    protocol: int
    direction: int
    verdict: int
    reason: int
    path: int


class Counters(NamedTuple):
    """COUNTERS, unpacked."""

    opened: int
    closed: int
    failed: int
    denied: int
    sent: int
    received: int
    retransmits: int
    refused_packets: int


_WORKLOAD_FIELDS = ("identity", "class4", "class6", "flags", "claim")
_DECISION_FIELDS = ("rule", "ports", "verdict", "reason", "strict")

# What the admin API shows of each map: field names, in the order of the packed values.
MAP_FIELDS: dict[str, dict[str, tuple[struct.Struct, tuple[str, ...]]]] = {
    "workloads": {
        "key": (struct.Struct("=Q"), ("cgroup",)),
        "value": (WORKLOAD, _WORKLOAD_FIELDS),
    },
    "residents": {
        "key": (RESIDENT_KEY, ("node", "claim")),
        "value": (WORKLOAD, _WORKLOAD_FIELDS),
    },
    "peers": {
        "key": (ADDRESS, ("address",)),
        "value": (PEER, ("identity", "class", "flags", "node")),
    },
    "listeners": {
        "key": (ENDPOINT, ("address", "port", "protocol")),
        "value": (PEER, ("identity", "class", "flags", "node")),
    },
    "blocks": {
        "key": (BLOCK_KEY, ("bits", "address")),
        "value": (struct.Struct("=I"), ("class",)),
    },
    "services": {
        "key": (ENDPOINT, ("address", "port", "protocol")),
        "value": (SERVICE, tuple(name.rstrip("_") for name in Service._fields)),
    },
    "slots": {
        "key": (SLOT_KEY, ("service", "epoch", "slot")),
        "value": (SLOT, ("first", "second", "threshold")),
    },
    "backends": {
        "key": (BACKEND_KEY, ("id",)),
        "value": (BACKEND, ("address", "port", "flags", "identity", "class", "node")),
    },
    "policy": {
        "key": (POLICY_KEY, ("source", "destination")),
        "value": (DECISION, _DECISION_FIELDS),
    },
    "port_rules": {
        "key": (PORT_RULE_KEY, ("bits", "list", "protocol", "port")),
        "value": (DECISION, _DECISION_FIELDS),
    },
    "interfaces": {
        "key": (INTERFACE_KEY, ("index", "address")),
        "value": (INTERFACE, ("cgroup", "identity", "class", "flags", "netns", "level")),
    },
    "blocked": {
        "key": (BLOCK_KEY, ("bits", "address")),
        "value": (struct.Struct("=I"), ("rule",)),
    },
    "limits": {
        "key": (struct.Struct("=I"), ("id",)),
        "value": (LIMIT, ("interval", "tolerance", "most", "id", "rule")),
    },
    "guards": {
        "key": (GUARD_KEY, ("cgroup", "port", "protocol")),
        "value": (LIMIT, ("interval", "tolerance", "most", "id", "rule")),
    },
    "outliers": {
        "key": (BACKEND_KEY, ("id",)),
        "value": (OUTLIER, Outlier._fields),
    },
    "domains": {
        "key": (DOMAIN_KEY, ("hash", "wildcard")),
        "value": (struct.Struct("=I"), ("pattern",)),
    },
    "resolvers": {
        "key": (ENDPOINT, ("address", "port", "protocol")),
        "value": (struct.Struct("=B"), ("trusted",)),
    },
    "learnt": {
        "key": (ADDRESS, ("address",)),
        "value": (LEARNT, ("expires", "pattern0", "pattern1", "pattern2", "pattern3")),
    },
    "pairs": {
        "key": (PAIR, Pair._fields),
        "value": (COUNTERS, Counters._fields),
    },
}


def describe(name: str, part: str, raw: bytes) -> dict[str, object]:
    """A key or value of a map in words."""
    packed, fields = MAP_FIELDS[name][part]
    return _named(fields, packed.unpack(raw))


def _named(fields: tuple[str, ...], values: tuple[object, ...]) -> dict[str, object]:
    return {field: _shown(field, value) for field, value in zip(fields, values, strict=True)}


def _shown(field: str, value: object) -> object:
    return _SHOWN[field](value) if field in _SHOWN else value


MAPPED = b"\0" * 10 + b"\xff\xff"  # before an IPv4 address (RFC 4291, 2.5.5.2)


def address_bytes(text: str) -> bytes:
    """16 bytes in network order, IPv4 as ::ffff:a.b.c.d. ``text`` has been checked."""
    if ":" in text:
        return ipaddress.IPv6Address(text).packed
    return MAPPED + bytes(map(int, text.split(".")))


def is4(raw: bytes) -> bool:
    """Whether 16 address bytes hold an IPv4 address."""
    return raw.startswith(MAPPED)


def version_of(text: str) -> int:
    """The IP version of an address that has been checked."""
    return 6 if ":" in text else 4


def address_text(raw: bytes) -> str:
    """The usual text of 16 address bytes; the unspecified address is empty."""
    if raw == bytes(16):
        return ""
    if is4(raw):
        return str(ipaddress.IPv4Address(raw[12:]))
    return str(ipaddress.IPv6Address(raw))


def port_bytes(port: int) -> bytes:
    return port.to_bytes(2, "big")


def port_number(raw: bytes) -> int:
    return int.from_bytes(raw, "big")


_SHOWN: dict[str, Callable[[Any], object]] = {
    "address": address_text,
    "port": lambda raw: port_number(raw) if isinstance(raw, bytes) else raw,
    "flags": lambda bits: [flag.name for flag in End(bits)],
    "verdict": lambda number: verdict.Verdict(number).name,
    "reason": lambda number: verdict.Reason(number).name,
}


class Record(msgspec.Struct, frozen=True):
    """The layout of a key, a value or an event: a struct format and the packed values' names."""

    format: str
    fields: tuple[str, ...]

    @property
    def size(self) -> int:
        return struct.calcsize(self.format)

    def unpack(self, raw: bytes) -> dict[str, Any]:
        return dict(zip(self.fields, struct.unpack(self.format, raw), strict=True))

    def pack(self, values: Mapping[str, Any]) -> bytes:
        """Fields that ``values`` lacks are zero; those that it has besides are left out."""
        nothing = struct.unpack(self.format, bytes(self.size))
        parts = zip(self.fields, nothing, strict=True)
        return struct.pack(self.format, *(values.get(field, zero) for field, zero in parts))


_INDEX = Record("=I", ("index",))

# Maps that hold what only the kernel knows; an upgrade to another layout takes it over.
LIVE: dict[str, tuple[Record, Record]] = {
    "sockets": (Record("=Q", ("cookie",)), Record(FLOW.format, DatagramFlow._fields)),
    "datagrams": (
        Record(DATAGRAM_KEY.format, ("cookie", "remote", "port")),
        Record(FLOW.format, DatagramFlow._fields),
    ),
    "sessions": (
        Record(DATAGRAM_KEY.format, ("cookie", "remote", "port")),
        Record(SESSION.format, ("service", "backend")),
    ),
    "learnt": (
        Record("=16s", ("address",)),
        Record(LEARNT.format, ("expires", "pattern0", "pattern1", "pattern2", "pattern3")),
    ),
    "crossings": (
        Record(TUPLE.format, ("local", "remote", "local_port", "remote_port", "protocol")),
        Record(CROSSING.format, ("epoch", "direction", "captured")),
    ),
    "affinities": (
        Record(AFFINITY_KEY.format, ("client", "service", "family")),
        Record(AFFINITY.format, ("used", "backend")),
    ),
    "outliers": (Record(BACKEND_KEY.format, ("id",)), Record(OUTLIER.format, Outlier._fields)),
    "ejections": (
        Record(EJECTION_KEY.format, ("service", "family", "ends")),
        Record("=I", ("count",)),
    ),
    "alerts": (_INDEX, Record("=Q", ("until",))),
    "allowances": (
        _INDEX,
        Record(
            ALLOWANCES.format,
            tuple(f"{f}{way}" for way in range(ALLOWANCE_WAYS) for f in Allowance._fields),
        ),
    ),
    "pairs": (Record(PAIR.format, Pair._fields), Record(COUNTERS.format, Counters._fields)),
    "events": (Record("=", ()), Record(EVENT.format, Event._fields)),
}


@dataclass(frozen=True)
class MapSpec:
    """A kernel map: name, the type of map in BCC's words, bytes of key and value, entries."""

    name: str
    kind: str
    key: int
    value: int
    entries: int
    release: str = ""  # of a map that another version of the programs must not use

    @property
    def record(self) -> tuple[Record, Record] | None:
        """The layout of what a live map holds."""
        return LIVE.get(self.name)

    @property
    def version(self) -> str:
        """Pins carry it: a map whose layout or size changes is another map."""
        version = f"{self.key}-{self.value}-{self.entries}"
        if self.release:
            return f"{version}-{self.release}"
        if self.record is None:
            return version
        return f"{version}-{hashlib.sha256(repr(self.record).encode()).hexdigest()[:8]}"

    @property
    def pin(self) -> str:
        """Its file in the pin directory."""
        return f"{self.name}@{self.version}"


def map_specs(sizes: dict[str, int]) -> tuple[MapSpec, ...]:
    """Every map; ``sizes`` are the settings' numbers of entries, by map name."""
    return (
        MapSpec("settings", "array", 4, SETTINGS.size, 1),
        MapSpec("workloads", "hash", 8, WORKLOAD.size, sizes["workloads"]),
        MapSpec("peers", "hash", 16, PEER.size, sizes["peers"]),
        MapSpec("listeners", "hash", ENDPOINT.size, PEER.size, sizes["listeners"]),
        MapSpec("blocks", "lpm_trie", BLOCK_KEY.size, 4, sizes["blocks"]),
        MapSpec("services", "hash", ENDPOINT.size, SERVICE.size, sizes["services"]),
        MapSpec("slots", "hash", SLOT_KEY.size, SLOT.size, sizes["slots"]),
        MapSpec("backends", "hash", BACKEND_KEY.size, BACKEND.size, sizes["backends"]),
        MapSpec("policy", "hash", POLICY_KEY.size, DECISION.size, sizes["policy"]),
        MapSpec("port_rules", "lpm_trie", PORT_RULE_KEY.size, DECISION.size, sizes["port_rules"]),
        MapSpec("domains", "hash", DOMAIN_KEY.size, 4, sizes["domains"]),
        MapSpec("resolvers", "hash", ENDPOINT.size, 1, sizes["resolvers"]),
        MapSpec("learnt", "lru_hash", 16, LEARNT.size, sizes["learnt"]),
        MapSpec("scratch", "percpu_array", 4, NAME_SIZE, 1),
        MapSpec("arrivals", "percpu_array", 4, ARRIVAL_SIZE, 1),
        MapSpec("calls", "prog", 4, 4, len(CALLS)),
        MapSpec("sockets", "hash", 8, FLOW.size, sizes["sockets"]),
        MapSpec("datagrams", "hash", DATAGRAM_KEY.size, FLOW.size, sizes["datagrams"]),
        MapSpec("sessions", "lru_hash", DATAGRAM_KEY.size, SESSION.size, sizes["datagrams"]),
        MapSpec("accepting", "lru_hash", 36, 40, sizes["accepting"]),
        MapSpec("inflight", "lru_hash", 32, 24, sizes["inflight"]),
        MapSpec("refused", "lru_hash", 24, 8, sizes["refused"]),
        MapSpec("origins", "sk_storage", 4, 24, 0),
        MapSpec("residents", "hash", RESIDENT_KEY.size, WORKLOAD.size, sizes["residents"]),
        MapSpec("node_keys", "hash", NODE_KEY_ID.size, NODE_KEY.size, sizes["node_keys"]),
        MapSpec("vouched", "lru_hash", 36, 8, sizes["accepting"]),
        MapSpec("pairs", "hash", PAIR.size, COUNTERS.size, sizes["pairs"]),
        MapSpec("losses", "percpu_array", 4, 8, len(LOSSES)),
        MapSpec("events", "ringbuf", 0, 0, sizes["events"]),
        MapSpec("interfaces", "hash", INTERFACE_KEY.size, INTERFACE.size, sizes["interfaces"]),
        MapSpec("blocked", "lpm_trie", BLOCK_KEY.size, 4, sizes["blocked"]),
        MapSpec("crossings", "lru_hash", TUPLE.size, CROSSING.size, sizes["crossings"]),
        MapSpec("fragments", "lru_hash", FRAGMENT_KEY.size, 8, sizes["fragments"]),
        MapSpec("receivers", "sk_storage", 4, 8, 0),
        MapSpec("affinities", "lru_hash", AFFINITY_KEY.size, AFFINITY.size, sizes["affinities"]),
        MapSpec("outliers", "lru_hash", BACKEND_KEY.size, OUTLIER.size, sizes["outliers"]),
        MapSpec("ejections", "lru_hash", EJECTION_KEY.size, 4, sizes["outliers"]),
        MapSpec("alerts", "array", 4, 8, ALERTS),
        MapSpec("limits", "hash", 4, LIMIT.size, sizes["limits"]),
        MapSpec("guards", "hash", GUARD_KEY.size, LIMIT.size, sizes["guards"]),
        MapSpec("allowances", "array", 4, ALLOWANCES.size, sizes["allowances"]),
        MapSpec("reserved", "lru_hash", 36, 12, sizes["accepting"]),
    )
