"""ClusterNetworkPolicy (policy.networking.k8s.io) as clauses: ordered rules of two tiers."""

from __future__ import annotations

from collections.abc import Iterable

from meshapi.resources import ClusterNetworkPolicy
from meshapi.resources.meta import LabelSelector
from meshapi.resources.options import options_of
from meshapi.resources.policyapi import (
    ClusterEgressRule,
    ClusterIngressRule,
    EgressPeer,
    IngressPeer,
    NamespacedPods,
    ProtocolMatch,
    Subject,
    Tier,
    Transport,
)
from meshapi.verdict import Reason
from nodeagent.policy.blocks import block_name
from nodeagent.policy.clauses import Action, Clause, Ports, PortWish, Stage
from nodeagent.policy.conditions import (
    AnyOf,
    Condition,
    InBlock,
    NodeAddresses,
    ResolvedFrom,
    Workloads,
    selector,
)
from nodeagent.policy.decisions import Direction, Protocol, Rule
from nodeagent.policy.members import Member
from nodeagent.policy.ports import LAST

_ACTIONS = {"Accept": Action.ALLOW, "Deny": Action.DENY, "Pass": Action.PASS}
_REFUSALS: dict[Tier, Reason] = {
    "Admin": Reason.ADMIN_DENIED,
    "Baseline": Reason.BASELINE_DENIED,
}


def selects(policy: ClusterNetworkPolicy, member: Member, direction: Direction) -> bool:
    """Whether the policy has rules for this direction of the member."""
    rules = policy.spec.ingress if direction == "ingress" else policy.spec.egress
    return bool(rules) and subject(policy.spec.subject).matches(member)


def subject(wanted: Subject) -> Workloads:
    """Whom a policy is about."""
    return _workloads(wanted.namespaces, wanted.pods)


def stage(policies: Iterable[ClusterNetworkPolicy], tier: Tier, direction: Direction) -> Stage:
    """The rules of one tier's policies that all select somebody, in their order of precedence."""
    ordered = sorted(
        (p for p in policies if p.spec.tier == tier),
        key=lambda p: (p.spec.priority, p.metadata.name),
    )
    return tuple(clause for policy in ordered for clause in clauses(policy, direction))


def clauses(policy: ClusterNetworkPolicy, direction: Direction) -> tuple[Clause, ...]:
    options = options_of(policy)
    rules: tuple[ClusterIngressRule | ClusterEgressRule, ...] = (
        policy.spec.ingress if direction == "ingress" else policy.spec.egress
    )
    return tuple(
        Clause(
            rule=Rule("ClusterNetworkPolicy", policy.metadata.name, f"{direction}[{index}]"),
            action=_ACTIONS[rule.action],
            reason=(_REFUSALS[policy.spec.tier] if rule.action == "Deny" else Reason.POLICY_ALLOW),
            peers=_peers(rule),
            ports=Ports(tuple(wish for match in rule.protocols for wish in _wishes(match))),
            strict=options.strict and direction == "ingress",
            audit=options.audit,
        )
        for index, rule in enumerate(rules)
    )


def _peers(rule: ClusterIngressRule | ClusterEgressRule) -> Condition:
    peers: tuple[IngressPeer | EgressPeer, ...] = (
        rule.from_ if isinstance(rule, ClusterIngressRule) else rule.to
    )
    return AnyOf(tuple(part for peer in peers for part in _peer(peer)))


def _peer(peer: IngressPeer | EgressPeer) -> tuple[Condition, ...]:
    if isinstance(peer, EgressPeer):
        if peer.nodes is not None:
            return (NodeAddresses(selector(peer.nodes)),)
        if peer.networks:
            return tuple(InBlock(block_name(cidr, ())) for cidr in peer.networks)
        if peer.domain_names:
            return tuple(ResolvedFrom(domain_pattern(name)) for name in peer.domain_names)
    return (_workloads(peer.namespaces, peer.pods),)


def domain_pattern(name: str) -> str:
    """A domain name pattern in one writing: lower case, without the root's dot."""
    return name.lower().removesuffix(".")


def _workloads(namespaces: LabelSelector | None, pods: NamespacedPods | None) -> Workloads:
    """Workloads with an address of their own; those of the host's network are never meant."""
    if pods is not None:
        return Workloads(
            namespaces=selector(pods.namespace_selector),
            pods=selector(pods.pod_selector),
            host=False,
        )
    return Workloads(namespaces=selector(namespaces or LabelSelector()), host=False)


def _wishes(match: ProtocolMatch) -> tuple[PortWish, ...]:
    if match.destination_named_port is not None:
        return (PortWish(None, name=match.destination_named_port),)
    if match.tcp is not None:
        return (_wish("TCP", match.tcp),)
    return (_wish("UDP", match.udp),) if match.udp is not None else ()


def _wish(protocol: Protocol, transport: Transport) -> PortWish:
    port = transport.destination_port
    if port.range is not None:
        return PortWish(protocol, port.range.start, port.range.end)
    return PortWish(protocol, port.number or 0, port.number or LAST)
