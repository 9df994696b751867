"""AuthorizationPolicy, as it is for connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from meshapi.resources import AuthorizationPolicy
from meshapi.verdict import Reason
from tests.unit.nodeagent.reference.mesh import End, Flow, Policy, World, inside
from tests.unit.nodeagent.reference.verdicts import OPEN, Consent, Refusal, is_strict, refusal


def judge_authorization(world: World, policies: list[Policy], flow: Flow) -> Consent:
    """DENY first; then, if there are ALLOW policies for the workload, one of them must match."""
    selecting = [
        p for p in policies if isinstance(p, AuthorizationPolicy) and _authorizes(world, p, flow)
    ]
    denying = [
        (policy, f"rules[{index}]")
        for policy in selecting
        if policy.spec.action == "DENY"
        for index, rule in enumerate(policy.spec.rules)
        if _rule_matches(world, policy, rule, flow)
    ]
    reason = Reason.AUTHORIZATION_DENIED
    if denying:
        rules = [rule for p, text in denying for rule in refusal(reason, [p], text).rules]
        return Refusal(reason, frozenset(rules)), False
    allows = [p for p in selecting if p.spec.action == "ALLOW"]
    if not allows:
        return OPEN
    matching = [p for p in allows if any(_rule_matches(world, p, r, flow) for r in p.spec.rules)]
    if matching:
        return None, all(is_strict(p) for p in matching)
    return refusal(reason, allows, "no rule allows it"), False


def _authorizes(world: World, policy: AuthorizationPolicy, flow: Flow) -> bool:
    """Policies of the root namespace are for the workloads of all namespaces."""
    workload = flow.destination.workload
    if workload is None:
        return False
    own, labels = policy.metadata.namespace, workload.metadata.labels
    wanted = policy.spec.selector.match_labels
    return own in (workload.metadata.namespace, world.mesh.root_namespace) and all(
        labels.get(key) == value for key, value in wanted.items()
    )


def _rule_matches(world: World, policy: AuthorizationPolicy, rule: Any, flow: Flow) -> bool:
    """A source, an operation and all conditions.

    What only HTTP requests have is missing here: an ALLOW rule that asks for it does not match, for
    a DENY rule what is missing counts as matching.
    """
    asked = [f"source.{f}" for s in rule.from_ for f in _fields(s.source)]
    asked += [f"operation.{f}" for t in rule.to for f in _fields(t.operation)]
    asked += [w.key for w in rule.when]
    if policy.spec.action == "ALLOW" and any(_http_only(attribute) for attribute in asked):
        return False
    return (
        (not rule.from_ or any(_source(world, policy, f.source, flow) for f in rule.from_))
        and (not rule.to or any(_operation(t.operation, flow) for t in rule.to))
        and all(_condition(world, policy, w, flow) for w in rule.when)
    )


def _fields(part: Any) -> list[str]:
    """The fields that are given, without their not."""
    return [f.removeprefix("not_") for f in part.__struct_fields__ if getattr(part, f)]


def _http_only(attribute: str) -> bool:
    return attribute in (
        "source.request_principals",
        "source.remote_ip_blocks",
        "operation.hosts",
        "operation.methods",
        "operation.paths",
        "remote.ip",
        "connection.sni",
    ) or attribute.startswith("request.")


def _source(world: World, policy: AuthorizationPolicy, asked: Any, flow: Flow) -> bool:
    caller = flow.source
    return (
        _one_of(asked.principals, asked.not_principals, lambda v: _principal(world, v, caller))
        and _one_of(asked.namespaces, asked.not_namespaces, lambda v: _namespace(v, caller))
        and _one_of(
            asked.service_accounts,
            asked.not_service_accounts,
            lambda v: _service_account(policy, v, caller),
        )
        and _one_of(asked.ip_blocks, asked.not_ip_blocks, lambda v: inside(caller, v))
    )


def _operation(asked: Any, flow: Flow) -> bool:
    return _one_of(asked.ports, asked.not_ports, lambda v: _port(v, flow))


def _condition(world: World, policy: AuthorizationPolicy, asked: Any, flow: Flow) -> bool:
    match: dict[str, Callable[[str], bool]] = {
        "source.ip": lambda v: inside(flow.source, v),
        "source.namespace": lambda v: _namespace(v, flow.source),
        "source.principal": lambda v: _principal(world, v, flow.source),
        "source.serviceAccount": lambda v: _service_account(policy, v, flow.source),
        "destination.ip": lambda v: inside(flow.destination, v),
        "destination.port": lambda v: _port(v, flow),
    }
    if _http_only(asked.key):
        return True
    return _one_of(asked.values, asked.not_values, match[asked.key])


def _one_of(
    values: tuple[str, ...], not_values: tuple[str, ...], holds: Callable[[str], bool]
) -> bool:
    """Any of the values, if some are given, and none of the others."""
    return (not values or any(map(holds, values))) and not any(map(holds, not_values))


def _principal(world: World, value: str, caller: End) -> bool:
    """``cluster.local`` stands for the mesh's own trust domain, whatever that is called."""
    if caller.workload is None:
        return False
    path = f"ns/{caller.workload.metadata.namespace}/sa/{caller.workload.spec.service_account}"
    domains = (world.mesh.trust_domain, "cluster.local")
    return any(_text(value, f"{domain}/{path}") for domain in domains)


def _namespace(value: str, caller: End) -> bool:
    return caller.workload is not None and _text(value, caller.workload.metadata.namespace)


def _service_account(policy: AuthorizationPolicy, value: str, caller: End) -> bool:
    if caller.workload is None:
        return False
    namespace, slash, account = value.rpartition("/")
    wanted = (namespace if slash else policy.metadata.namespace, account)
    return wanted == (caller.workload.metadata.namespace, caller.workload.spec.service_account)


def _text(value: str, text: str) -> bool:
    """Exact, prefix, suffix and presence."""
    if value == "*":
        return text != ""
    if value.startswith("*"):
        return text.endswith(value[1:])
    if value.endswith("*"):
        return text.startswith(value[:-1])
    return text == value


def _port(value: str, flow: Flow) -> bool:
    """Only TCP and UDP have ports."""
    return flow.protocol != "OTHER" and flow.port == int(value)
