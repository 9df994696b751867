"""NetworkPolicy, evaluated: for a pair of classes, the verdict for every port. Pure.

Semantics are networking.k8s.io/v1's: a workload that some policy selects for a direction is closed
in that direction but for what the rules of all such policies add up to.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from meshapi.resources import (
    EgressRule,
    IngressRule,
    NetworkPolicy,
    PolicyPeer,
    PolicyPort,
)
from meshapi.selectors import matches
from meshapi.verdict import Reason, Verdict
from nodeagent.desired.classes import Member, PolicyClass, Shared, block_name, canonical
from nodeagent.desired.ports import LAST, Segment, paint

Direction = Literal["ingress", "egress"]
Protocol = Literal["TCP", "UDP"]


@dataclass(frozen=True, order=True)
class Rule:
    """What decided: a rule of a policy, or the default of a direction that policies closed."""

    policy: str  # namespace/name; several, comma-separated, for a default
    text: str  # e.g. ingress[0], or "ingress default"


@dataclass(frozen=True)
class Decision:
    verdict: Verdict
    reason: Reason
    rule: Rule | None = None


Segments = list[Segment[Decision]]

OPEN = Decision(Verdict.ALLOW, Reason.NO_POLICY)
_REFUSALS: dict[Direction, Reason] = {
    "ingress": Reason.INGRESS_DENIED,
    "egress": Reason.EGRESS_DENIED,
}


class PolicySet:
    """All policies of one revision, ready to answer for any pair of classes."""

    def __init__(self, policies: tuple[NetworkPolicy, ...]) -> None:
        self._policies = policies
        self._closing = lru_cache(maxsize=None)(self._find_closing)
        self._one_way = lru_cache(maxsize=None)(self._decide_one_way)

    def restricts(self, end: PolicyClass, direction: Direction) -> bool:
        """Whether some policy closes this direction of the class."""
        return any(self._closing(m, direction) for m, _ in members(end))

    def decide(self, source: PolicyClass, destination: PolicyClass, protocol: Protocol) -> Segments:
        """Verdicts for every port of ``destination``; shared ends need every member's consent."""
        result: Segments | None = None
        for src, _ in members(source):
            for dst, port in members(destination):
                segments = self._decide_members(src, dst, protocol)
                if port is not None:
                    segments = [Segment(0, LAST, _at(segments, port))]
                result = segments if result is None else _both(result, segments)
        return result or [Segment(0, LAST, OPEN)]

    def _decide_members(self, source: Member, destination: Member, protocol: Protocol) -> Segments:
        egress = self._one_way(source, destination, destination, "egress", protocol)
        ingress = self._one_way(destination, source, destination, "ingress", protocol)
        return _both(list(egress), list(ingress))

    def _decide_one_way(
        self,
        subject: Member,
        peer: Member,
        destination: Member,
        direction: Direction,
        protocol: Protocol,
    ) -> tuple[Segment[Decision], ...]:
        closing = self._closing(subject, direction)
        if not closing:
            return (Segment(0, LAST, OPEN),)
        default = Rule(",".join(_name(p) for p in closing), f"{direction} default")
        layers: Segments = []
        for policy in closing:
            for index, (peers, ports) in enumerate(_rules(policy, direction)):
                if not _any_peer(peers, peer, policy.metadata.namespace):
                    continue
                allow = Decision(
                    Verdict.ALLOW,
                    Reason.POLICY_ALLOW,
                    Rule(_name(policy), f"{direction}[{index}]"),
                )
                layers += [
                    Segment(first, last, allow)
                    for first, last in _ranges(ports, destination, protocol)
                ]
        refuse = Decision(Verdict.DENY, _REFUSALS[direction], default)
        return tuple(paint(refuse, layers))

    def _find_closing(self, end: Member, direction: Direction) -> tuple[NetworkPolicy, ...]:
        if not end.namespace:
            return ()
        labels = dict(end.labels)
        return tuple(
            policy
            for policy in self._policies
            if policy.metadata.namespace == end.namespace
            and direction in _types(policy)
            and matches(policy.spec.pod_selector, labels)
        )


def members(end: PolicyClass) -> list[tuple[Member, int | None]]:
    """The members of a class, each with the port it is reached on (None: as dialled)."""
    if isinstance(end, Shared):
        return sorted(end.members, key=lambda m: (repr(canonical(m[0])), m[1] or 0))
    return [(end, None)]


def _types(policy: NetworkPolicy) -> tuple[str, ...]:
    if policy.spec.policy_types:
        return tuple(t.lower() for t in policy.spec.policy_types)
    return ("ingress", "egress") if policy.spec.egress else ("ingress",)


def _rules(
    policy: NetworkPolicy, direction: Direction
) -> list[tuple[tuple[PolicyPeer, ...], tuple[PolicyPort, ...]]]:
    rules: tuple[IngressRule | EgressRule, ...] = (
        policy.spec.ingress if direction == "ingress" else policy.spec.egress
    )
    return [(r.from_ if isinstance(r, IngressRule) else r.to, r.ports) for r in rules]


def _any_peer(peers: tuple[PolicyPeer, ...], end: Member, namespace: str) -> bool:
    return not peers or any(_peer_matches(peer, end, namespace) for peer in peers)


def _peer_matches(peer: PolicyPeer, end: Member, namespace: str) -> bool:
    if peer.ip_block is not None:
        return block_name(peer.ip_block.cidr, peer.ip_block.except_) in end.blocks
    if not end.namespace:
        return False
    if peer.namespace_selector is None:
        if end.namespace != namespace:
            return False
    elif not matches(peer.namespace_selector, dict(end.namespace_labels)):
        return False
    return peer.pod_selector is None or matches(peer.pod_selector, dict(end.labels))


def _ranges(
    ports: tuple[PolicyPort, ...], destination: Member, protocol: Protocol
) -> list[tuple[int, int]]:
    """The port ranges that a rule opens on this destination for this protocol."""
    if not ports:
        return [(0, LAST)]
    ranges = []
    for port in ports:
        if port.protocol != protocol:
            continue
        if port.port is None:
            ranges.append((0, LAST))
        elif isinstance(port.port, int):
            ranges.append((port.port, port.end_port or port.port))
        else:
            ranges += [
                (number, number)
                for name, named_protocol, number in destination.ports
                if (name, named_protocol) == (port.port, protocol)
            ]
    return ranges


def _both(first: Segments, second: Segments) -> Segments:
    """Allowed only where both allow; the first refusal, or else the more telling consent, stays."""
    cuts = sorted({s.first for s in first} | {s.first for s in second})
    merged = [Segment(c, c, _stricter(_at(first, c), _at(second, c))) for c in cuts]
    ends = [*cuts[1:], LAST + 1]
    layers = [Segment(s.first, end - 1, s.value) for s, end in zip(merged, ends, strict=True)]
    return paint(OPEN, layers)


def _at(segments: Segments, port: int) -> Decision:
    return next(s.value for s in segments if s.first <= port <= s.last)


def _stricter(first: Decision, second: Decision) -> Decision:
    if first.verdict is Verdict.DENY:
        return first
    if second.verdict is Verdict.DENY:
        return second
    return second if second.rule is not None else first


def _name(policy: NetworkPolicy) -> str:
    return f"{policy.metadata.namespace}/{policy.metadata.name}"
