"""What policy says now of a connection that is open. Pure.

The same questions in the same order as bpf/connect.c (outbound_decide) and bpf/inbound.c
(inbound_decide) ask them, with the tables that the kernel has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from meshapi.identity import WORLD
from meshapi.verdict import Direction, Path, Reason, Verdict
from nodeagent import layout
from nodeagent.desired.compiler import Compiler
from nodeagent.layout import DatagramFlow, End, port_number
from nodeagent.policy.decisions import OPEN, Decision, Protocol

_NODE = Decision(Verdict.ALLOW, Reason.LOCAL_NODE)
_PROXY = Decision(Verdict.ALLOW, Reason.NODE_PROXY)
_PROTOCOLS: dict[int, Protocol] = {6: "TCP", 17: "UDP"}


@dataclass(frozen=True)
class Party:
    """One end of a connection: its class, the END_* flags that it was found with, its identity."""

    number: int
    flags: int
    identity: int


class Judge:
    """One revision's word; asks each distinct question once.

    ``learnt`` gives the numbers of the domain name patterns that an address was resolved from.
    """

    def __init__(self, compiler: Compiler, learnt: Callable[[bytes], Sequence[int]]) -> None:
        self._compiler = compiler
        self._learnt = learnt
        self._tables = compiler.tables
        self._known: dict[object, Decision] = {}

    def decide(self, flow: DatagramFlow) -> Decision:
        """The decision for a connection as if it were opened now; open if it is not ours."""
        outbound = flow.direction == Direction.OUTBOUND
        question = (
            flow.cgroup,
            flow.direction,
            flow.path,
            flow.protocol,
            flow.actual,
            flow.actual_port if outbound else flow.dialled_port,
            claim_of(flow),
            (flow.dialled, flow.dialled_port) if flow.path == Path.PROXY else None,
        )
        found = self._known.get(question)
        if found is None:
            found = self._blocked(flow)
            if found is None:
                found = self._outbound(flow) if outbound else self._inbound(flow)
            self._known[question] = found
        return found

    def _blocked(self, flow: DatagramFlow) -> Decision | None:
        """The refusal of what is on a block list, the other end or the workload itself."""
        ours = self._local(flow)
        rule = self._compiler.blocked(flow.actual) if ours is not None else None
        if rule is not None or (ours is not None and ours.flags & End.BLOCKED):
            return Decision(Verdict.DENY, Reason.BLOCKED, rule)
        return None

    def _outbound(self, flow: DatagramFlow) -> Decision:
        source = self._local(flow)
        if source is None:
            return OPEN
        if flow.path == Path.PROXY:
            destination = self._redirected(flow)
            port = port_number(flow.dialled_port)
            if destination is None:
                return OPEN  # not redirected any more: new connections go another way
        else:
            destination = self._peer(flow.actual, flow.actual_port, flow.protocol, by_port=True)
            port = port_number(flow.actual_port)
        if destination.flags & End.LOCAL_NODE and not source.flags & End.QUARANTINED:
            return _NODE
        decision = self._look_up(source, destination, flow.protocol, port)
        if decision.allows or flow.path == Path.PROXY or flow.actual in self._tables["peers"]:
            return decision
        return self._by_name(flow, source, destination, port) or decision

    def _by_name(
        self, flow: DatagramFlow, source: Party, destination: Party, port: int
    ) -> Decision | None:
        """A consent to the address of a name: one that it has, or had when it was connected to."""
        patterns = (destination.number ^ p for p in self._learnt(flow.actual) if p)
        name = _PROTOCOLS.get(flow.protocol, "OTHER")
        for number in dict.fromkeys((flow.destination_class, *patterns)):
            if number != destination.number and self._compiler.knows(number):
                decision = self._compiler.decide(source.number, number, name, port)
                if decision.allows:
                    return decision
        return None

    def _inbound(self, flow: DatagramFlow) -> Decision:
        destination = self._local(flow)
        if destination is None:
            return OPEN
        proved = self._proved(flow)
        source = proved or self._peer(flow.actual, flow.actual_port, flow.protocol, by_port=False)
        if not destination.flags & End.QUARANTINED:
            if source.flags & End.LOCAL_NODE:
                return _NODE
            if source.flags & End.PROXY:
                return _PROXY
        port = port_number(flow.dialled_port)
        decision = self._look_up(source, destination, flow.protocol, port)
        # A caller on this node has answered to its own address.
        certain = proved is not None or source.flags & End.LOCAL
        if decision.strict and decision.allows and not certain:
            return replace(decision, verdict=Verdict.DENY, reason=Reason.IDENTITY_REQUIRED)
        return decision

    def _proved(self, flow: DatagramFlow) -> Party | None:
        """Who the caller has proved to be; None if it has not, or is not there any more."""
        claim = claim_of(flow)
        peer = self._tables["peers"].get(flow.actual) if claim else None
        if peer is None:
            return None
        key = layout.RESIDENT_KEY.pack(layout.PEER.unpack(peer)[3], claim)
        raw = self._tables["residents"].get(key)
        return None if raw is None else _workload(raw, flow.actual)

    def _look_up(self, source: Party, destination: Party, protocol: int, port: int) -> Decision:
        if not source.flags & End.EGRESS and not destination.flags & End.INGRESS:
            return OPEN
        name = _PROTOCOLS.get(protocol, "OTHER")
        return self._compiler.decide(source.number, destination.number, name, port)

    def _local(self, flow: DatagramFlow) -> Party | None:
        return local_of(self._compiler, flow.cgroup, flow.actual)

    def _redirected(self, flow: DatagramFlow) -> Party | None:
        key = layout.ENDPOINT.pack(flow.dialled, flow.dialled_port, flow.protocol)
        raw = self._tables["services"].get(key)
        if raw is None:
            return None
        service = layout.Service(*layout.SERVICE.unpack(raw))
        redirected = service.action == layout.SERVICE_REDIRECT
        return Party(service.class_, service.flags, 0) if redirected else None

    def _peer(self, address: bytes, port: bytes, protocol: int, *, by_port: bool) -> Party:
        return peer_of(self._compiler, address, port, protocol, by_port=by_port)


def peer_of(
    compiler: Compiler, address: bytes, port: bytes, protocol: int, *, by_port: bool
) -> Party:
    """Who is behind an address, ``by_port`` also among those that share it (bpf/capture.h)."""
    raw = compiler.tables["peers"].get(address)
    if raw is None:
        return Party(compiler.outside(address), 0, WORLD)
    identity, class_, flags, _ = layout.PEER.unpack(raw)
    if by_port and flags & End.SHARED:
        raw = compiler.tables["listeners"].get(layout.ENDPOINT.pack(address, port, protocol))
        if raw is not None:
            identity, class_, flags, _ = layout.PEER.unpack(raw)
    return Party(class_, flags, identity)


def local_of(compiler: Compiler, cgroup: int, peer: bytes) -> Party | None:
    """The workload of a cgroup as it speaks with an address; None if it is not enrolled."""
    raw = compiler.tables["workloads"].get(cgroup.to_bytes(8, "little"))
    return None if raw is None else _workload(raw, peer)


def _workload(raw: bytes, peer: bytes) -> Party:
    identity, class4, class6, flags, _ = layout.WORKLOAD.unpack(raw)
    return Party(class4 if layout.is4(peer) else class6, flags, identity)


def claim_of(flow: DatagramFlow) -> int:
    """The claim that a caller has proved; 0: it is known by its address alone."""
    inbound = flow.direction == Direction.INBOUND
    return flow.claim if inbound and flow.flags & layout.FLOW_AUTHENTICATED else 0
