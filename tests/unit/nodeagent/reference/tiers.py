"""ClusterNetworkPolicy of both tiers, and NetworkPolicy between them."""

from __future__ import annotations

from typing import Any

from meshapi.resources import ClusterNetworkPolicy, NetworkPolicy
from meshapi.verdict import Reason
from tests.unit.nodeagent.reference.mesh import Direction, End, Flow, Policy, World, inside, selects
from tests.unit.nodeagent.reference.verdicts import OPEN, Consent, is_strict, refusal


def judge_direction(
    world: World, policies: list[Policy], direction: Direction, flow: Flow
) -> Consent:
    """The first tier that makes a final decision makes it; if none does, it is allowed."""
    subject = flow.source if direction == "egress" else flow.destination
    if subject.workload is None:
        return OPEN
    for decided in (
        _cluster_tier(world, policies, "Admin", direction, flow),
        _network_policies(world, policies, direction, flow),
        _cluster_tier(world, policies, "Baseline", direction, flow),
    ):
        if decided is not None:
            return decided
    return OPEN


def _cluster_tier(
    world: World, policies: list[Policy], tier: str, direction: Direction, flow: Flow
) -> Consent | None:
    """The first rule that matches, by priority and then by place; None: nothing, or Pass."""
    own = flow.source if direction == "egress" else flow.destination
    peer = flow.destination if direction == "egress" else flow.source
    of_tier = [p for p in policies if isinstance(p, ClusterNetworkPolicy) and p.spec.tier == tier]
    # Of two with the same priority either may go first; here it is the first by name.
    for policy in sorted(of_tier, key=lambda p: (p.spec.priority, p.metadata.name)):
        subject = policy.spec.subject
        if not _cluster_selects(world, subject, own):
            continue
        rules = policy.spec.egress if direction == "egress" else policy.spec.ingress
        for index, rule in enumerate(rules):
            peers = rule.to if direction == "egress" else rule.from_
            if not any(_cluster_peer(world, p, peer) for p in peers):
                continue
            if rule.protocols and not any(_cluster_port(m, flow) for m in rule.protocols):
                continue
            if rule.action == "Pass":
                return None
            if rule.action == "Accept":
                return None, is_strict(policy, direction)
            reason = Reason.ADMIN_DENIED if tier == "Admin" else Reason.BASELINE_DENIED
            return refusal(reason, [policy], f"{direction}[{index}]"), False
    return None


def _cluster_selects(world: World, choice: Any, end: End) -> bool:
    """``namespaces`` or ``pods``, of a subject or a peer; never workloads in a host's network."""
    workload = end.workload
    if workload is None or workload.spec.network == "host":
        return False
    labels = world.namespace_labels(workload.metadata.namespace)
    if choice.namespaces is not None:
        return selects(choice.namespaces, labels)
    if choice.pods is not None:
        return selects(choice.pods.namespace_selector, labels) and selects(
            choice.pods.pod_selector, workload.metadata.labels
        )
    return False


def _cluster_peer(world: World, peer: Any, end: End) -> bool:
    if _cluster_selects(world, peer, end):
        return True
    nodes = getattr(peer, "nodes", None)
    if nodes is not None and end.node is not None:
        return selects(nodes, end.node.metadata.labels)
    return any(inside(end, network) for network in getattr(peer, "networks", ()))


def _cluster_port(match: Any, flow: Flow) -> bool:
    if match.destination_named_port is not None:
        return (flow.protocol, flow.port) in _named(flow.destination, match.destination_named_port)
    for protocol, transport in (("TCP", match.tcp), ("UDP", match.udp)):
        if transport is not None and flow.protocol == protocol:
            wanted = transport.destination_port
            if wanted.range is not None:
                return wanted.range.start <= flow.port <= wanted.range.end
            return flow.port == wanted.number
    return False


def _network_policies(
    world: World, policies: list[Policy], direction: Direction, flow: Flow
) -> Consent | None:
    """Those that select the workload for the direction allow what any rule of theirs allows."""
    own = flow.source if direction == "egress" else flow.destination
    peer = flow.destination if direction == "egress" else flow.source
    selecting = [
        policy
        for policy in policies
        if isinstance(policy, NetworkPolicy)
        and direction in _types(policy)
        and own.workload is not None
        and policy.metadata.namespace == own.workload.metadata.namespace
        and selects(policy.spec.pod_selector, own.workload.metadata.labels)
    ]
    if not selecting:
        return None
    allowing = [
        policy
        for policy in selecting
        for rule in (policy.spec.egress if direction == "egress" else policy.spec.ingress)
        if _rule_allows(world, policy, rule, peer, flow)
    ]
    if allowing:
        return None, all(is_strict(policy, direction) for policy in allowing)
    reason = Reason.EGRESS_DENIED if direction == "egress" else Reason.INGRESS_DENIED
    return refusal(reason, selecting, f"{direction} default"), False


def _types(policy: NetworkPolicy) -> set[str]:
    """Not given, it is Ingress, and Egress as well if there are egress rules."""
    if policy.spec.policy_types:
        return {t.lower() for t in policy.spec.policy_types}
    return {"ingress", "egress"} if policy.spec.egress else {"ingress"}


def _rule_allows(world: World, policy: NetworkPolicy, rule: Any, peer: End, flow: Flow) -> bool:
    peers = rule.to if hasattr(rule, "to") else rule.from_
    return (not peers or any(_np_peer(world, policy, p, peer) for p in peers)) and (
        not rule.ports or any(_np_port(p, flow) for p in rule.ports)
    )


def _np_peer(world: World, policy: NetworkPolicy, peer: Any, end: End) -> bool:
    if peer.ip_block is not None:
        return inside(end, peer.ip_block.cidr, peer.ip_block.except_)
    if end.workload is None:
        return False
    namespace = end.workload.metadata.namespace
    if peer.namespace_selector is None:
        there = namespace == policy.metadata.namespace
    else:
        there = selects(peer.namespace_selector, world.namespace_labels(namespace))
    return there and (
        peer.pod_selector is None or selects(peer.pod_selector, end.workload.metadata.labels)
    )


def _np_port(port: Any, flow: Flow) -> bool:
    if flow.protocol != port.protocol:
        return False
    if port.port is None:
        return True
    if isinstance(port.port, str):
        return (flow.protocol, flow.port) in _named(flow.destination, port.port)
    return port.port <= flow.port <= (port.end_port or port.port)


def _named(end: End, port: str) -> set[tuple[str, int]]:
    """The ports of that name which the workload at an end has."""
    ports = end.workload.spec.ports if end.workload else ()
    return {(p.protocol, p.port) for p in ports if p.name == port}
