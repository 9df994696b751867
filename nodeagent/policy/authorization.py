"""AuthorizationPolicy (security.istio.io) as clauses: what Istio documents, for connections."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from meshapi.resources import AuthorizationPolicy
from meshapi.resources.authorization import (
    AuthorizationRule,
    Operation,
    Source,
    When,
    layer4_rule,
)
from meshapi.resources.meta import LabelSelector
from meshapi.resources.options import options_of
from meshapi.verdict import Reason
from meshapi.wire import MeshSettings
from nodeagent.policy.blocks import block_name, network_of
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
    NOBODY,
    AllOf,
    AnyOf,
    Condition,
    InBlock,
    InNamespace,
    NoneOf,
    Principal,
    ServiceAccount,
    Workloads,
    selector,
)
from nodeagent.policy.decisions import Rule
from nodeagent.policy.members import Member

KIND = "AuthorizationPolicy"

Make = Callable[[Sequence[str]], Condition]


def selects(policy: AuthorizationPolicy, member: Member, root_namespace: str) -> bool:
    """Whether the policy is about the member."""
    return subject(policy, root_namespace).matches(member)


def subject(policy: AuthorizationPolicy, root_namespace: str) -> Workloads:
    """Whom a policy is about; the root namespace's are about every namespace."""
    namespace = policy.metadata.namespace
    return Workloads(
        namespace=namespace if namespace != root_namespace else None,
        pods=selector(LabelSelector(policy.spec.selector.match_labels)),
    )


def stage(policies: Iterable[AuthorizationPolicy], subject: Member, mesh: MeshSettings) -> Stage:
    """What policies that all select the subject add up to: refusals first, then consents.

    If some policy consents, who is meant by none is refused.
    """
    found = list(policies)
    denying = [p for p in found if p.spec.action == "DENY"]
    allowing = [p for p in found if p.spec.action == "ALLOW"]
    ordered = [c for p in denying for c in clauses(p, subject, mesh)]
    ordered += permissive_first(c for p in allowing for c in clauses(p, subject, mesh))
    audits = {_name(p): options_of(p).audit for p in allowing}
    ordered += closing(KIND, audits, "no rule allows it", Reason.AUTHORIZATION_DENIED)
    return tuple(ordered)


def clauses(policy: AuthorizationPolicy, subject: Member, mesh: MeshSettings) -> tuple[Clause, ...]:
    """One clause for each operation of each rule; what only HTTP requests have is left out.

    A rule for another address of the destination stays, with nobody in it: whether a workload is
    closed must not depend on the IP version that it is spoken to in.
    """
    options = options_of(policy)
    allow = policy.spec.action == "ALLOW"
    found = []
    for index, written in enumerate(policy.spec.rules):
        rule = layer4_rule(policy.spec.action, written)
        if rule is None:
            continue
        peers = _peers(rule, policy.metadata.namespace, subject, mesh)
        found += [
            Clause(
                rule=Rule(KIND, _name(policy), f"rules[{index}]"),
                action=Action.ALLOW if allow else Action.DENY,
                reason=Reason.POLICY_ALLOW if allow else Reason.AUTHORIZATION_DENIED,
                peers=peers,
                ports=ports,
                strict=options.strict,
                audit=options.audit,
            )
            for ports in _ports(rule)
        ]
    return tuple(found)


def address_blocks(policy: AuthorizationPolicy) -> Iterable[str]:
    """Every address block that the policy mentions."""
    for rule in policy.spec.rules:
        for sender in rule.from_:
            yield from (*sender.source.ip_blocks, *sender.source.not_ip_blocks)
        for condition in rule.when:
            if condition.key in {"source.ip", "destination.ip"}:
                yield from (*condition.values, *condition.not_values)


# -- who ------------------------------------------------------------------------------------------


def _peers(
    rule: AuthorizationRule, namespace: str, subject: Member, mesh: MeshSettings
) -> Condition:
    parts: list[Condition] = []
    if rule.from_:
        parts.append(AnyOf(tuple(_source(f.source, namespace, mesh) for f in rule.from_)))
    for condition in rule.when:
        if condition.key == "destination.ip":
            if not _when(condition, namespace, mesh).matches(subject):
                return NOBODY
        elif condition.key != "destination.port":
            parts.append(_when(condition, namespace, mesh))
    return AllOf(tuple(parts))


def _source(source: Source, namespace: str, mesh: MeshSettings) -> Condition:
    given: tuple[tuple[Make, Sequence[str], Sequence[str]], ...] = (
        (partial(_principals, mesh), source.principals, source.not_principals),
        (_namespaces, source.namespaces, source.not_namespaces),
        (partial(_accounts, namespace), source.service_accounts, source.not_service_accounts),
        (_blocks, source.ip_blocks, source.not_ip_blocks),
    )
    return AllOf(
        tuple(p for make, wanted, unwanted in given for p in _given(make, wanted, unwanted))
    )


def _when(condition: When, namespace: str, mesh: MeshSettings) -> Condition:
    make: dict[str, Make] = {
        "source.ip": _blocks,
        "destination.ip": _blocks,
        "source.namespace": _namespaces,
        "source.principal": partial(_principals, mesh),
        "source.serviceAccount": partial(_accounts, namespace),
    }
    return AllOf(tuple(_given(make[condition.key], condition.values, condition.not_values)))


def _given(make: Make, wanted: Sequence[str], unwanted: Sequence[str]) -> Iterator[Condition]:
    if wanted:
        yield make(wanted)
    if unwanted:
        yield NoneOf((make(unwanted),))


def _principals(mesh: MeshSettings, values: Sequence[str]) -> Condition:
    return AnyOf(tuple(Principal(value, mesh.trust_domain) for value in values))


def _namespaces(values: Sequence[str]) -> Condition:
    return AnyOf(tuple(InNamespace(value) for value in values))


def _accounts(namespace: str, values: Sequence[str]) -> Condition:
    return AnyOf(
        tuple(
            ServiceAccount(*(value if "/" in value else f"{namespace}/{value}").split("/", 1))
            for value in values
        )
    )


def _blocks(values: Sequence[str]) -> Condition:
    return AnyOf(tuple(InBlock(block_name(str(network_of(value)), ())) for value in values))


# -- on which ports --------------------------------------------------------------------------------


def _ports(rule: AuthorizationRule) -> list[Ports]:
    """What each operation is about; the conditions on the port hold for all of them."""
    wanted = [w for w in rule.when if w.key == "destination.port"]
    excluded = tuple(_port(value) for w in wanted for value in w.not_values)
    conditions = [tuple(_port(v) for v in w.values) for w in wanted if w.values]
    operations = [t.operation for t in rule.to] or [Operation()]
    return [_operation(operation, conditions, excluded) for operation in operations]


def _operation(
    operation: Operation, conditions: list[tuple[PortWish, ...]], excluded: tuple[PortWish, ...]
) -> Ports:
    own = tuple(_port(value) for value in operation.ports)
    wishes = [*conditions, own] if own else conditions
    excluded += tuple(_port(value) for value in operation.not_ports)
    if not wishes:
        return Ports((), excluded)
    common = set.intersection(*(set(w) for w in wishes))
    impossible = (PortWish(None, 1, 0),)
    return Ports(tuple(sorted(common, key=lambda w: w.first)) or impossible, excluded)


def _port(value: str) -> PortWish:
    return PortWish(None, int(value), int(value))


def _name(policy: AuthorizationPolicy) -> str:
    return f"{policy.metadata.namespace}/{policy.metadata.name}"
