"""What is allowed but probably not meant: one sentence each, shown by ``hopctl apply``."""

from __future__ import annotations

from collections.abc import Iterator

from controller.references import missing
from controller.state import State
from meshapi.resources import HTTPRoute, NetworkPolicy, Resource, Service, Workload, key_of


def warnings(state: State, resource: Resource) -> Iterator[str]:
    """Warnings about one object in the state that includes it."""
    subject = str(key_of(resource))
    match resource:
        case Service():
            yield from _service(state, resource, subject)
        case HTTPRoute():
            yield from _httproute(state, resource, subject)
        case NetworkPolicy():
            if not state.workloads.selected(
                resource.metadata.namespace, resource.spec.pod_selector
            ):
                yield f"{subject}: it selects no workload yet"
        case Workload():
            if state.node(resource.spec.node_name) is None:
                yield (
                    f"{subject}: {resource.spec.node_name} is not a node of this mesh yet; "
                    "the workload waits until it joins"
                )


def _service(state: State, service: Service, subject: str) -> Iterator[str]:
    if not service.spec.selector:
        yield f"{subject}: it has no selector; connections to it are refused"
        return
    backends = state.backends(service)
    if not backends:
        yield (
            f"{subject}: no workload matches its selector; "
            "connections to it are refused until one does"
        )
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
                f"{subject}: $.spec.ports[{i}].targetPort: no workload that it selects "
                f"has a port named {port.target_port!r}"
            )


def _httproute(state: State, route: HTTPRoute, subject: str) -> Iterator[str]:
    namespace = route.metadata.namespace
    for i, parent in enumerate(route.spec.parent_refs):
        problem = missing(state, namespace, parent.name, parent.port)
        if problem:
            yield f"{subject}: $.spec.parentRefs[{i}]: {problem}; the route waits until it is there"
    for i, rule in enumerate(route.spec.rules):
        for j, backend in enumerate(rule.backend_refs):
            problem = missing(state, namespace, backend.name, backend.port)
            if problem:
                yield (
                    f"{subject}: $.spec.rules[{i}].backendRefs[{j}]: {problem}; "
                    "its share of requests is answered with 500"
                )
