"""What is allowed but probably not meant: one sentence each, shown by ``hopctl apply``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from controller.admission.neighbours import Neighbours
from controller.references import missing
from controller.selection import selects_some
from controller.state import State
from meshapi.resources import (
    AuthorizationPolicy,
    BlockList,
    ClusterNetworkPolicy,
    HTTPRoute,
    NetworkPolicy,
    Quarantine,
    Resource,
    Service,
    TrafficPolicy,
    Workload,
    key_of,
)
from meshapi.resources.authorization import AuthorizationRule, http_only, layer4_rule, unconditional
from meshapi.resources.options import Policy


def warnings(state: State, resources: Iterable[Resource]) -> Iterator[str]:
    """Warnings about objects in the state that includes them; each begins with kind and name."""
    around = Neighbours(state)
    for resource in resources:
        about = _WARNINGS.get(type(resource))
        for text in about(around, resource) if about else ():
            yield f"{key_of(resource)}: {text}"


def _service(around: Neighbours, service: Service) -> Iterator[str]:
    what = "its name has no address" if service.spec.headless else "connections to it are refused"
    if not service.spec.selector:
        yield f"it has no selector; {what}"
        return
    backends = around.state.backends(service)
    if not backends:
        yield f"no workload matches its selector; {what} until one does"
    for i, port in enumerate(service.spec.ports):
        named = isinstance(port.target_port, str)
        if (
            named
            and backends
            and not any(
                p.name == port.target_port and p.protocol == port.protocol
                for w in backends
                for p in w.spec.ports
            )
        ):
            yield (
                f"$.spec.ports[{i}].targetPort: no workload that it selects "
                f"has a port named {port.target_port!r}"
            )


def _httproute(around: Neighbours, route: HTTPRoute) -> Iterator[str]:
    namespace = route.metadata.namespace
    for i, parent in enumerate(route.spec.parent_refs):
        problem = missing(around.state, namespace, parent.name, parent.port)
        if problem:
            yield f"$.spec.parentRefs[{i}]: {problem}; the route waits until it is there"
        elif _headless(around.state, namespace, parent.name):
            yield (
                f"$.spec.parentRefs[{i}]: Service {namespace}/{parent.name} is headless: nobody "
                "dials an address of it, so no request meets the route"
            )
    for i, rule in enumerate(route.spec.rules):
        for j, backend in enumerate(rule.backend_refs):
            problem = missing(around.state, namespace, backend.name, backend.port)
            if problem:
                yield (
                    f"$.spec.rules[{i}].backendRefs[{j}]: {problem}; "
                    "its share of requests is answered with 500"
                )


def _networkpolicy(around: Neighbours, policy: Policy) -> Iterator[str]:
    if not selects_some(around.state, policy):
        yield "it selects no workload yet"


def _clusternetworkpolicy(around: Neighbours, policy: ClusterNetworkPolicy) -> Iterator[str]:
    yield from _networkpolicy(around, policy)
    others = around.of_the_same_priority(policy)
    if others:
        verb = "has" if len(others) == 1 else "have"
        yield (
            f"$.spec.priority: {', '.join(others)} of tier {policy.spec.tier} {verb} priority "
            f"{policy.spec.priority} as well; which one goes first is not defined"
        )


def _authorizationpolicy(around: Neighbours, policy: AuthorizationPolicy) -> Iterator[str]:
    yield from _networkpolicy(around, policy)
    for i, rule in enumerate(policy.spec.rules):
        yield from _rule(f"$.spec.rules[{i}]", policy.spec.action, rule)


def _rule(at: str, action: str, rule: AuthorizationRule) -> Iterator[str]:
    """Istio's meaning of HTTP-only fields where there is no HTTP request."""
    seen = layer4_rule(action, rule)
    for path in http_only(rule):
        where = f"{at}.{path}: only HTTP requests have this; at layer 4"
        if seen is None:
            yield f"{where} this ALLOW rule never matches"
        elif unconditional(seen):
            yield f"{where} this DENY rule ignores it, and so refuses every connection"
        else:
            yield f"{where} this DENY rule ignores it"


def _trafficpolicy(around: Neighbours, policy: TrafficPolicy) -> Iterator[str]:
    namespace = policy.metadata.namespace
    for i, target in enumerate(policy.spec.target_refs):
        problem = missing(around.state, namespace, target.name, None)
        if problem:
            yield f"$.spec.targetRefs[{i}]: {problem}; the policy waits until it is there"
        elif _headless(around.state, namespace, target.name):
            yield (
                f"$.spec.targetRefs[{i}]: Service {namespace}/{target.name} is headless: nobody "
                "dials an address of it, so the policy has nothing to act on"
            )
        elif _unasked(around.state, policy, target.name):
            yield (
                f"$.spec.healthCheck: the UDP ports of Service {namespace}/{target.name} are not "
                "checked; give a port that answers TCP"
            )


def _unasked(state: State, policy: TrafficPolicy, name: str) -> bool:
    """Whether a health check leaves out ports of a service, which cannot be asked."""
    check, service = policy.spec.health_check, state.service(policy.metadata.namespace, name)
    return (
        check is not None
        and check.port is None
        and service is not None
        and any(port.protocol == "UDP" for port in service.spec.ports)
    )


def _headless(state: State, namespace: str, name: str) -> bool:
    service = state.service(namespace, name)
    return service is not None and service.spec.headless


def _quarantine(around: Neighbours, quarantine: Quarantine) -> Iterator[str]:
    namespace, name = quarantine.metadata.namespace, quarantine.spec.workload
    if around.state.workload(namespace, name) is None:
        yield (
            f"$.spec.workload: Workload {namespace}/{name} does not exist; "
            "it will be quarantined from the moment it does"
        )
    for i, peer in enumerate(quarantine.spec.allow_from):
        if peer.workload and around.state.workload(peer.namespace, peer.workload) is None:
            yield (
                f"$.spec.allowFrom[{i}]: Workload {peer.namespace}/{peer.workload} does not exist; "
                "it is let in from the moment it does"
            )


def _blocklist(around: Neighbours, blocks: BlockList) -> Iterator[str]:
    found = around.held(blocks.spec.cidrs)
    for i, text in enumerate(blocks.spec.cidrs):
        held = found.get(i)
        if held:
            more = f" and {held.number - 1} more of the mesh's own" if held.number > 1 else ""
            yield f"$.spec.cidrs[{i}]: {text} holds {held.first}{more}; nobody will reach them"


def _workload(around: Neighbours, workload: Workload) -> Iterator[str]:
    if around.state.node(workload.spec.node_name) is None:
        yield (
            f"{workload.spec.node_name} is not a node of this mesh yet; "
            "the workload waits until it joins"
        )


_WARNINGS: dict[type[Resource], Callable[[Neighbours, Any], Iterator[str]]] = {
    Service: _service,
    HTTPRoute: _httproute,
    NetworkPolicy: _networkpolicy,
    ClusterNetworkPolicy: _clusternetworkpolicy,
    AuthorizationPolicy: _authorizationpolicy,
    TrafficPolicy: _trafficpolicy,
    Quarantine: _quarantine,
    BlockList: _blocklist,
    Workload: _workload,
}
