"""The datapath's decision at connect(), in plain Python over the tables' bytes.

A model of bpf/connect.c (outbound_decide), bpf/capture.h and bpf/policy.h: tests run it on what the
agent would write, at every step of writing it.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from meshapi.verdict import Reason, Verdict
from nodeagent import layout
from nodeagent.desired.build import Table
from nodeagent.layout import End, address_bytes, port_bytes


@dataclass(frozen=True)
class Outcome:
    """What a connect() comes to; ``to`` is the backend, "proxy" or "" when refused."""

    verdict: Verdict
    reason: Reason
    to: str = ""


REFUSED_NO_BACKEND = Outcome(Verdict.DENY, Reason.NO_BACKEND)


@dataclass
class Kernel:
    """Every map's content and the settings that the programs read."""

    tables: dict[str, Table]
    port_lengths: int

    def connect(
        self, cgroup: int, address: str, port: int, protocol: str = "TCP"
    ) -> set[Outcome] | None:
        """Every outcome that a connect() may have (the backend is drawn); None: not captured."""
        raw = self.tables["workloads"].get(cgroup.to_bytes(8, "little"))
        if raw is None:
            return None
        _, class4, class6, flags = layout.WORKLOAD.unpack(raw)
        source = class4 if ipaddress.ip_address(address).version == 4 else class6
        closed = bool(flags & End.EGRESS)
        number = layout.PROTOCOLS[protocol]
        key = layout.ENDPOINT.pack(address_bytes(address), port_bytes(port), number)
        service = self.tables["services"].get(key)
        if service is None:
            return {self._to_address(source, closed, address, port, number)}
        identifier, class_, slots, epoch, service_flags, action = layout.SERVICE.unpack(service)
        if action == layout.SERVICE_REDIRECT:
            outcome = self._decide(source, closed, class_, service_flags, number, port, "proxy")
            return {outcome}
        if not slots:
            return {REFUSED_NO_BACKEND}
        outcomes = set()
        for index in range(slots):
            slot = self.tables["slots"].get(layout.SLOT_KEY.pack(identifier, epoch, index))
            if slot is None:
                outcomes.add(REFUSED_NO_BACKEND)
                continue
            first, second, _ = layout.SLOT.unpack(slot)
            for backend in (first, second):
                to, to_port, to_flags, _, to_class = layout.BACKEND.unpack(backend)
                number_ = layout.port_number(to_port)
                name = f"{layout.address_text(to)}:{number_}"
                outcomes.add(
                    self._decide(source, closed, to_class, to_flags, number, number_, name)
                )
        return outcomes

    def _to_address(
        self, source: int, closed: bool, address: str, port: int, protocol: int
    ) -> Outcome:
        peer = self.tables["peers"].get(address_bytes(address))
        class_, flags = self._outside(address), 0
        if peer is not None:
            _, class_, flags = layout.PEER.unpack(peer)
            if flags & End.SHARED:
                key = layout.ENDPOINT.pack(address_bytes(address), port_bytes(port), protocol)
                listener = self.tables["listeners"].get(key)
                if listener is not None:
                    _, class_, flags = layout.PEER.unpack(listener)
        if flags & End.VIP:
            return Outcome(Verdict.DENY, Reason.SERVICE_PORT_UNKNOWN)
        name = f"{address}:{port}"
        return self._decide(source, closed, class_, flags, protocol, port, name)

    def _outside(self, address: str) -> int:
        best, found = -1, 0
        raw = int.from_bytes(address_bytes(address), "big")
        for key, value in self.tables["blocks"].items():
            bits, prefix = layout.BLOCK_KEY.unpack(key)
            shift = 128 - bits
            if raw >> shift == int.from_bytes(prefix, "big") >> shift and bits > best:
                best, found = bits, int.from_bytes(value, "little")
        return found

    def _decide(
        self, source: int, closed: bool, to: int, flags: int, protocol: int, port: int, name: str
    ) -> Outcome:
        if flags & End.LOCAL_NODE:
            return Outcome(Verdict.ALLOW, Reason.LOCAL_NODE, name)
        if not closed and not flags & End.INGRESS:
            return Outcome(Verdict.ALLOW, Reason.NO_POLICY, name)
        for length in range(16, -1, -1):
            if not self.port_lengths & 1 << length:
                continue
            mask = (0xFFFF << (16 - length)) & 0xFFFF if length else 0
            key = layout.POLICY_KEY.pack(source, to, port & mask, protocol, length)
            found = self.tables["policy"].get(key)
            if found is not None:
                _, verdict, reason = layout.DECISION.unpack(found)
                to_name = name if verdict == Verdict.ALLOW else ""
                return Outcome(Verdict(verdict), Reason(reason), to_name)
        return Outcome(Verdict.DENY, Reason.POLICY_PENDING)
