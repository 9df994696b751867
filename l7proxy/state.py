"""What layer 7 means on this node: the service ports to proxy and their backends. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from meshapi.resources import HTTPRoute, MeshNode, Quarantine, Service, ServicePort, Workload
from meshapi.watch import Snapshot
from meshapi.wire import ServicePortRef

# appProtocol values of a backend that speaks HTTP/2 without TLS (Kubernetes' own name, then those
# in common use); every other backend is spoken to in HTTP/1.1.
HTTP2_PROTOCOLS = frozenset({"kubernetes.io/h2c", "http2", "grpc"})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One workload that takes connections; one address per family, IPv4 first."""

    addresses: tuple[str, ...]
    port: int
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Backend:
    """A service port that some route leads to."""

    ref: ServicePortRef
    http2: bool
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class ProxiedPort:
    """A service port whose connections the node proxy takes, and the routes bound to it."""

    ref: ServicePortRef
    addresses: tuple[str, ...]
    routes: tuple[HTTPRoute, ...]


@dataclass(frozen=True, slots=True)
class View:
    """The layer-7 part of one snapshot; empty on a node that has no workload of its own."""

    ports: dict[ServicePortRef, ProxiedPort] = field(default_factory=dict)
    backends: dict[ServicePortRef, Backend] = field(default_factory=dict)

    @property
    def needed(self) -> bool:
        """Whether this node has to run Envoy."""
        return bool(self.ports)


def view(snapshot: Snapshot, node: str, draining: frozenset[ServicePortRef] = frozenset()) -> View:
    """The view of ``node``. ``draining`` backends are kept as long as their service exists."""
    objects = list(snapshot.objects.values())
    workloads = [o for o in objects if isinstance(o, Workload)]
    services = {
        (o.metadata.namespace, o.metadata.name): o for o in objects if isinstance(o, Service)
    }
    routes = [o for o in objects if isinstance(o, HTTPRoute)]
    bound = _bound(routes, services)
    if not any(w.spec.node_name == node for w in workloads):
        bound = {}
    ports = {
        ref: ProxiedPort(ref, addresses(services[ref.namespace, ref.name]), tuple(rs))
        for ref, rs in bound.items()
    }
    wanted = dict.fromkeys(ref for rs in bound.values() for r in rs for ref in backend_refs(r))
    wanted.update(dict.fromkeys(draining))
    nodes = {o.metadata.name: o for o in objects if isinstance(o, MeshNode)}
    isolated = {
        (o.metadata.namespace, o.spec.workload) for o in objects if isinstance(o, Quarantine)
    }
    at_large = [w for w in workloads if (w.metadata.namespace, w.metadata.name) not in isolated]
    instances = _Instances(at_large, nodes)
    return View(ports, dict(_backends(wanted, services, instances)))


def addresses(service: Service) -> tuple[str, ...]:
    """The virtual addresses of a service; a headless one has none, so nothing is redirected."""
    return service.spec.addresses


def backend_refs(route: HTTPRoute) -> Iterator[ServicePortRef]:
    """Every service port that a route names as backend, whether or not it exists."""
    for rule in route.spec.rules:
        for backend in rule.backend_refs:
            namespace = backend.namespace or route.metadata.namespace
            yield ServicePortRef(namespace=namespace, name=backend.name, port=backend.port or 0)


def _bound(
    routes: Iterable[HTTPRoute], services: dict[tuple[str, str], Service]
) -> dict[ServicePortRef, list[HTTPRoute]]:
    """The routes of each service port that has some; a route counts once however often it binds."""
    bound: dict[ServicePortRef, list[HTTPRoute]] = defaultdict(list)
    for route in routes:
        refs: set[ServicePortRef] = set()
        for parent in route.spec.parent_refs:
            namespace = parent.namespace or route.metadata.namespace
            service = services.get((namespace, parent.name))
            if service is None or not addresses(service):
                continue
            refs |= {
                ServicePortRef(namespace=namespace, name=parent.name, port=port.port)
                for port in service.spec.ports
                if port.protocol == "TCP" and parent.port in (None, port.port)
            }
        for ref in refs:
            bound[ref].append(route)
    return bound


def _backends(
    wanted: Iterable[ServicePortRef],
    services: dict[tuple[str, str], Service],
    instances: _Instances,
) -> Iterator[tuple[ServicePortRef, Backend]]:
    for ref in wanted:
        service = services.get((ref.namespace, ref.name))
        port = _tcp_port(service, ref.port) if service else None
        if service and port:
            endpoints = tuple(instances.endpoints(service, port))
            yield ref, Backend(ref, port.app_protocol in HTTP2_PROTOCOLS, endpoints)


def _tcp_port(service: Service, number: int) -> ServicePort | None:
    return next((p for p in service.spec.ports if p.port == number and p.protocol == "TCP"), None)


class _Instances:
    """Workloads that take connections, by namespace and label, so that a selector need not look
    at all of them.
    """

    def __init__(self, workloads: Iterable[Workload], nodes: dict[str, MeshNode]) -> None:
        self._nodes = nodes
        self._by_label: dict[tuple[str, str, str], dict[str, Workload]] = defaultdict(dict)
        for workload in workloads:
            if workload.status.ready and workload.spec.weight:
                meta = workload.metadata
                for key, value in meta.labels.items():
                    self._by_label[meta.namespace, key, value][meta.name] = workload

    def endpoints(self, service: Service, port: ServicePort) -> Iterator[Endpoint]:
        """Where ``port`` of ``service`` is served, in the order of the workloads' names.

        Unhealthy ones are left out while a healthy one is there, as in the kernel (docs/
        load-balancing.md). A service without a selector selects nothing, as in Kubernetes.
        """
        found = list(self._reached(service, port))
        return iter([e for e, healthy in found if healthy] or [e for e, _ in found])

    def _reached(self, service: Service, port: ServicePort) -> Iterator[tuple[Endpoint, bool]]:
        """Every endpoint, and whether it is healthy."""
        namespace = service.metadata.namespace
        groups = [
            self._by_label.get((namespace, k, v), {}) for k, v in service.spec.selector.items()
        ]
        if not groups:
            return
        groups.sort(key=len)
        for name in sorted(groups[0]):
            if all(name in group for group in groups[1:]):
                workload = groups[0][name]
                number = _target_port(workload, port)
                reached_at = self._addresses(workload)
                if number and reached_at:
                    healthy = number not in workload.status.unhealthy_ports
                    yield Endpoint(reached_at, number, workload.spec.weight), healthy

    def _addresses(self, workload: Workload) -> tuple[str, ...]:
        if workload.spec.network == "pod":
            return _one_per_family(workload.spec.addresses)
        node = self._nodes.get(workload.spec.node_name)
        return _one_per_family(node.spec.addresses) if node else ()


def _target_port(workload: Workload, port: ServicePort) -> int | None:
    """The workload's number for a service port: given, looked up by name, or the same."""
    if isinstance(port.target_port, str):
        named = (p.port for p in workload.spec.ports if _is(p.name, p.protocol, port.target_port))
        return next(named, None)
    return port.target_port or port.port


def _is(name: str | None, protocol: str, wanted: str) -> bool:
    return name == wanted and protocol == "TCP"


def _one_per_family(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """The first IPv4 and the first IPv6 address (checked already, so a colon tells them apart)."""
    v4 = next((a for a in addresses if ":" not in a), None)
    v6 = next((a for a in addresses if ":" in a), None)
    return tuple(a for a in (v4, v6) if a is not None)
