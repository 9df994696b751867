"""All policies together, about two known ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from meshapi.resources import (
    AuthorizationPolicy,
    ClusterNetworkPolicy,
    MeshNode,
    NetworkPolicy,
)
from meshapi.verdict import Reason, Verdict
from tests.unit.nodeagent.reference.authorization import judge_authorization
from tests.unit.nodeagent.reference.mesh import End, Flow, Policy, Protocol, World, inside, name
from tests.unit.nodeagent.reference.tiers import judge_direction
from tests.unit.nodeagent.reference.verdicts import Decision, Refusal, audits, refusal


def decide(world: World, source: End, destination: End, protocol: Protocol, port: int) -> Decision:
    """What all policies together say."""
    flow = Flow(source, destination, protocol, port)
    policies = [*world.every(NetworkPolicy), *world.every(ClusterNetworkPolicy)]
    policies += world.every(AuthorizationPolicy)
    # Those in audit mode are as if they were not there; what they would change is told.
    refusals, strict = _judged(world, [p for p in policies if not audits(p)], flow)
    refusals = (*_quarantined(world, flow), *refusals)
    if refusals:
        return Decision(Verdict.DENY, refusals=refusals)
    refusals, _ = _judged(world, policies, flow)
    return Decision(Verdict.AUDIT if refusals else Verdict.ALLOW, strict, refusals)


def _judged(world: World, policies: list[Policy], flow: Flow) -> tuple[tuple[Refusal, ...], bool]:
    """Egress of the source, ingress of the destination and its authorization: all must consent."""
    refusals: list[Refusal] = []
    strict = False
    for refused, only_strict in (
        judge_direction(world, policies, "egress", flow),
        judge_direction(world, policies, "ingress", flow),
        judge_authorization(world, policies, flow),
    ):
        refusals += [refused] if refused else []
        strict = strict or only_strict
    return tuple(refusals), strict


def _quarantined(world: World, flow: Flow) -> Iterator[Refusal]:
    """Nothing from a quarantined workload; to it, only from those that it lets in."""
    source, destination = flow.source, flow.destination
    if source.workload:
        for quarantine in world.quarantines_of(source.workload):
            yield refusal(Reason.QUARANTINED, [quarantine], "egress default")
    if destination.workload:
        for quarantine in world.quarantines_of(destination.workload):
            if not any(_is_guest(world, peer, source) for peer in quarantine.spec.allow_from):
                yield refusal(Reason.QUARANTINED, [quarantine], "ingress default")


def _is_guest(world: World, peer: Any, source: End) -> bool:
    """A node proxy forwards what others send, so its address is nobody's to let in."""
    if peer.cidr:
        proxies = {a for n in world.every(MeshNode) for a in n.spec.proxy_addresses}
        return inside(source, peer.cidr) and not proxies.intersection(source.addresses)
    return source.workload is not None and name(source.workload) == (peer.namespace, peer.workload)
