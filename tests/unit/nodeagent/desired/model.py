"""The datapath's decisions in plain Python over the tables' bytes.

A model of bpf/connect.c (outbound_decide), bpf/ingress.c (inbound_decide), bpf/capture.h,
bpf/policy.h and bpf/blocklist.h: tests run it on what the agent would write, at every step of
writing it.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from meshapi.verdict import Reason, Verdict
from nodeagent import layout
from nodeagent.desired.plan import Table
from nodeagent.layout import CLASS_ANY, End, address_bytes, port_bytes


@dataclass(frozen=True)
class Outcome:
    """What a connect() or a SYN comes to; ``to`` is the backend, "proxy" or "" when refused."""

    verdict: Verdict
    reason: Reason
    to: str = ""
    rule: int = 0
    strict: bool = False


SCTP = 132  # stands for the protocols that have no ports here

REFUSED_NO_BACKEND = Outcome(Verdict.DENY, Reason.NO_BACKEND)
FORGED = Outcome(Verdict.DENY, Reason.IDENTITY_FORGED)
IDENTITY_REQUIRED = Outcome(Verdict.DENY, Reason.IDENTITY_REQUIRED)
PENDING = Outcome(Verdict.DENY, Reason.POLICY_PENDING)
OPEN = Outcome(Verdict.ALLOW, Reason.NO_POLICY)


def protocol_number(protocol: str) -> int:
    """IPPROTO_* of TCP, UDP and OTHER."""
    return layout.PROTOCOLS.get(protocol, SCTP)


@dataclass
class Kernel:
    """Every map's content."""

    tables: dict[str, Table]

    def connect(
        self, cgroup: int, address: str, port: int, protocol: str = "TCP"
    ) -> set[Outcome] | None:
        """Every outcome that a connect() may have (the backend is drawn); None: not captured."""
        raw = self.tables["workloads"].get(cgroup.to_bytes(8, "little"))
        if raw is None:
            return None
        _, class4, class6, flags, _ = layout.WORKLOAD.unpack(raw)
        source = (class4 if ipaddress.ip_address(address).version == 4 else class6, End(flags))
        number = protocol_number(protocol)
        key = layout.ENDPOINT.pack(address_bytes(address), port_bytes(port), number)
        service = self.tables["services"].get(key)
        if service is None:
            direct = self._to_address(source, address, port, number)
            if direct.reason is Reason.SERVICE_PORT_UNKNOWN:
                return {direct}
            return {self._blocked(address, flags) or direct}
        found = layout.Service(*layout.SERVICE.unpack(service))
        if found.action == layout.SERVICE_REDIRECT:
            if flags & End.BLOCKED:
                return {Outcome(Verdict.DENY, Reason.BLOCKED)}
            return {self._outbound(source, (found.class_, End(found.flags)), number, port, "proxy")}
        if not found.slots:
            return {REFUSED_NO_BACKEND}
        keys = (layout.SLOT_KEY.pack(found.id, found.epoch, i) for i in range(found.slots))
        return {outcome for key in keys for outcome in self._slot(source, key, number)}

    def accept(
        self, cgroup: int, remote: str, port: int, protocol: str = "TCP", claim: int = 0
    ) -> Outcome | None:
        """What becomes of a SYN or datagram from ``remote``; None: not captured.

        ``claim`` is what a SYN says of its caller, under a tag that is good.
        """
        raw = self.tables["workloads"].get(cgroup.to_bytes(8, "little"))
        if raw is None:
            return None
        _, class4, class6, flags, _ = layout.WORKLOAD.unpack(raw)
        destination = class4 if ipaddress.ip_address(remote).version == 4 else class6
        blocked = self._blocked(remote)
        if blocked is not None:
            return blocked
        number = protocol_number(protocol)
        source, source_flags = self._peer(remote, port, number, by_port=False)
        if claim:
            resident = self._resident(remote, claim)
            if resident is None:
                return FORGED
            source, source_flags = resident
        if not End(flags) & End.QUARANTINED:
            if source_flags & End.LOCAL_NODE:
                return Outcome(Verdict.ALLOW, Reason.LOCAL_NODE)
            if source_flags & End.PROXY:
                return Outcome(Verdict.ALLOW, Reason.NODE_PROXY)
        found = self.look_up(
            (source, bool(source_flags & End.EGRESS)),
            (destination, bool(flags & End.INGRESS)),
            number,
            port,
        )
        if found.strict and found.verdict is not Verdict.DENY and not claim:
            return IDENTITY_REQUIRED
        return found

    def _resident(self, remote: str, claim: int) -> tuple[int, End] | None:
        peer = self.tables["peers"].get(address_bytes(remote))
        if peer is None:
            return None
        key = layout.RESIDENT_KEY.pack(layout.PEER.unpack(peer)[3], claim)
        raw = self.tables["residents"].get(key)
        if raw is None:
            return None
        _, class4, class6, flags, _ = layout.WORKLOAD.unpack(raw)
        return class4 if ipaddress.ip_address(remote).version == 4 else class6, End(flags)

    def blocked_by(self, address: str) -> int:
        """The rule of a block list that an address is under, 0 if it is under none."""
        return self._longest("blocked", address) or 0

    def _blocked(self, address: str, flags: int = 0) -> Outcome | None:
        if flags & End.BLOCKED:
            return Outcome(Verdict.DENY, Reason.BLOCKED)
        rule = self.blocked_by(address)
        return Outcome(Verdict.DENY, Reason.BLOCKED, "", rule) if rule else None

    def connect_unenrolled(
        self, classes: tuple[int, int], address: str, port: int, protocol: str = "TCP"
    ) -> Outcome:
        """A connect() of this node's own process, which belongs to no workload."""
        raw = self.tables["peers"].get(address_bytes(address))
        if raw is None:
            return OPEN
        _, class_, flags, _ = layout.PEER.unpack(raw)
        if not End(flags) & End.INGRESS or End(flags) & (End.LOCAL | End.LOCAL_NODE):
            return OPEN
        source = classes[0] if ipaddress.ip_address(address).version == 4 else classes[1]
        number = protocol_number(protocol)
        return self._outbound((source, End(0)), (class_, End(flags)), number, port, "")

    def _slot(self, source: tuple[int, End], key: bytes, protocol: int) -> set[Outcome]:
        slot = self.tables["slots"].get(key)
        if slot is None:
            return {REFUSED_NO_BACKEND}
        outcomes = set()
        first, second, _ = layout.SLOT.unpack(slot)
        for number in (first, second):
            raw = self.tables["backends"].get(layout.BACKEND_KEY.pack(number))
            if raw is None:
                outcomes.add(REFUSED_NO_BACKEND)
                continue
            to, to_port, to_flags, _, to_class, _ = layout.BACKEND.unpack(raw)
            port = layout.port_number(to_port)
            name = f"{layout.address_text(to)}:{port}"
            blocked = self._blocked(layout.address_text(to), source[1])
            there = (to_class, End(to_flags))
            outcomes.add(blocked or self._outbound(source, there, protocol, port, name))
        return outcomes

    def _to_address(
        self, source: tuple[int, End], address: str, port: int, protocol: int
    ) -> Outcome:
        class_, flags = self._peer(address, port, protocol, by_port=True)
        if flags & End.VIP:
            return Outcome(Verdict.DENY, Reason.SERVICE_PORT_UNKNOWN)
        return self._outbound(source, (class_, flags), protocol, port, f"{address}:{port}")

    def _peer(self, address: str, port: int, protocol: int, *, by_port: bool) -> tuple[int, End]:
        raw = self.tables["peers"].get(address_bytes(address))
        if raw is None:
            return self.outside(address), End(0)
        _, class_, flags, _ = layout.PEER.unpack(raw)
        if flags & End.SHARED and by_port:
            key = layout.ENDPOINT.pack(address_bytes(address), port_bytes(port), protocol)
            listener = self.tables["listeners"].get(key)
            if listener is not None:
                _, class_, flags, _ = layout.PEER.unpack(listener)
        return class_, End(flags)

    def outside(self, address: str) -> int:
        return self._longest("blocks", address) or 0

    def _longest(self, name: str, address: str) -> int | None:
        """What the longest prefix that holds an address stands for."""
        best, found = -1, None
        raw = int.from_bytes(address_bytes(address), "big")
        for key, value in self.tables[name].items():
            bits, prefix = layout.BLOCK_KEY.unpack(key)
            shift = 128 - bits
            if raw >> shift == int.from_bytes(prefix, "big") >> shift and bits > best:
                best, found = bits, int.from_bytes(value, "little")
        return found

    def _outbound(
        self, source: tuple[int, End], to: tuple[int, End], protocol: int, port: int, name: str
    ) -> Outcome:
        class_, flags = to
        if flags & End.LOCAL_NODE and not source[1] & End.QUARANTINED:
            return Outcome(Verdict.ALLOW, Reason.LOCAL_NODE, name)
        found = self.look_up(
            (source[0], bool(source[1] & End.EGRESS)),
            (class_, bool(flags & End.INGRESS)),
            protocol,
            port,
        )
        if found.verdict is Verdict.DENY:
            return found
        return Outcome(found.verdict, found.reason, name, found.rule, found.strict)

    def look_up(
        self, source: tuple[int, bool], destination: tuple[int, bool], protocol: int, port: int
    ) -> Outcome:
        """Ends are a class and whether it is closed in this direction."""
        if not source[1] and not destination[1]:
            return OPEN
        pair = self._entry(source[0], destination[0], protocol, port)
        if pair is not None:
            return pair
        result = OPEN
        if source[1]:
            result = self._entry(source[0], CLASS_ANY, protocol, port) or PENDING
        if not destination[1] or result.verdict is Verdict.DENY:
            return result
        ingress = self._entry(CLASS_ANY, destination[0], protocol, port) or PENDING
        if ingress.verdict is not Verdict.DENY and (
            result.verdict is Verdict.AUDIT or not ingress.rule
        ):
            strict = result.strict or ingress.strict
            return Outcome(result.verdict, result.reason, "", result.rule, strict)
        return ingress

    def _entry(self, source: int, destination: int, protocol: int, port: int) -> Outcome | None:
        raw = self.tables["policy"].get(layout.POLICY_KEY.pack(source, destination))
        if raw is None:
            return None
        rule, ports, verdict, reason, flags = layout.DECISION.unpack(raw)
        if ports:
            raw = self._port_rule(ports, protocol, port)
            if raw is None:
                return None
            rule, _, verdict, reason, flags = layout.DECISION.unpack(raw)
        return Outcome(
            Verdict(verdict), Reason(reason), "", rule, bool(flags & layout.DECISION_STRICT)
        )

    def _port_rule(self, ports: int, protocol: int, port: int) -> bytes | None:
        """The longest prefix that matches list, protocol and port (64 bits in all)."""
        best, found = -1, None
        if protocol not in layout.PROTOCOLS.values():
            protocol, port = layout.PORT_RULES_OTHER, 0
        wanted = int.from_bytes(layout.PORT_RULE_KEY.pack(0, ports, protocol, port_bytes(port))[4:])
        for key, value in self.tables["port_rules"].items():
            bits = layout.PORT_RULE_KEY.unpack(key)[0]
            if int.from_bytes(key[4:]) >> (64 - bits) == wanted >> (64 - bits) and bits > best:
                best, found = bits, value
        return found
