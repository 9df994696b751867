"""NetworkPolicy (networking.k8s.io/v1) as clauses: what is selected is closed but for its rules."""

from __future__ import annotations

from collections.abc import Iterable

from meshapi.resources import (
    EgressRule,
    IngressRule,
    NetworkPolicy,
    PolicyPeer,
    PolicyPort,
)
from meshapi.resources.options import options_of
from meshapi.verdict import Reason
from nodeagent.policy.blocks import block_name
from nodeagent.policy.clauses import (
    Action,
    Clause,
    Ports,
    PortWish,
    Stage,
    closing,
    permissive_first,
)
from nodeagent.policy.conditions import (
    EVERYBODY,
    AnyOf,
    Condition,
    InBlock,
    Workloads,
    selector,
)
from nodeagent.policy.decisions import Direction, Rule
from nodeagent.policy.members import Member
from nodeagent.policy.ports import LAST

_REFUSALS: dict[Direction, Reason] = {
    "ingress": Reason.INGRESS_DENIED,
    "egress": Reason.EGRESS_DENIED,
}


def selects(policy: NetworkPolicy, member: Member, direction: Direction) -> bool:
    """Whether the policy closes this direction of the member."""
    return direction in _types(policy) and subject(policy).matches(member)


def subject(policy: NetworkPolicy) -> Workloads:
    """Whom a policy is about."""
    return Workloads(namespace=policy.metadata.namespace, pods=selector(policy.spec.pod_selector))


def stage(policies: Iterable[NetworkPolicy], direction: Direction) -> Stage:
    """What policies that all select somebody add up to: their rules, then a refusal."""
    found = list(policies)
    if not found:
        return ()
    allowing = permissive_first(c for policy in found for c in clauses(policy, direction))
    audits = {_name(p): options_of(p).audit for p in found}
    refusals = closing("NetworkPolicy", audits, f"{direction} default", _REFUSALS[direction])
    return (*allowing, *refusals)


def clauses(policy: NetworkPolicy, direction: Direction) -> tuple[Clause, ...]:
    """The policy's own rules."""
    options = options_of(policy)
    return tuple(
        Clause(
            rule=Rule("NetworkPolicy", _name(policy), f"{direction}[{index}]"),
            action=Action.ALLOW,
            reason=Reason.POLICY_ALLOW,
            peers=_peers(peers, policy.metadata.namespace),
            ports=Ports(tuple(_wish(port) for port in ports)),
            strict=options.strict and direction == "ingress",
            audit=options.audit,
        )
        for index, (peers, ports) in enumerate(_rules(policy, direction))
    )


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


def _peers(peers: tuple[PolicyPeer, ...], namespace: str) -> Condition:
    return AnyOf(tuple(_peer(peer, namespace) for peer in peers)) if peers else EVERYBODY


def _peer(peer: PolicyPeer, namespace: str) -> Condition:
    if peer.ip_block is not None:
        return InBlock(block_name(peer.ip_block.cidr, peer.ip_block.except_))
    pods = selector(peer.pod_selector) if peer.pod_selector is not None else None
    if peer.namespace_selector is None:
        return Workloads(namespace=namespace, pods=pods)
    return Workloads(namespaces=selector(peer.namespace_selector), pods=pods)


def _wish(port: PolicyPort) -> PortWish:
    if port.port is None:
        return PortWish(port.protocol, 0, LAST)
    if isinstance(port.port, str):
        return PortWish(port.protocol, name=port.port)
    return PortWish(port.protocol, port.port, port.end_port or port.port)


def _name(policy: NetworkPolicy) -> str:
    return f"{policy.metadata.namespace}/{policy.metadata.name}"
