"""From a view to every resource that Envoy should have; pure.

What did not change since the build before is taken from there, so that one change costs the work of
one change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from l7proxy.resources.clusters import cluster
from l7proxy.resources.endpoints import load_assignment
from l7proxy.resources.listeners import filter_chain, outbound
from l7proxy.resources.names import Json, port_name
from l7proxy.resources.routes import route_configuration
from l7proxy.state import Backend, ProxiedPort, View, backend_refs
from l7proxy.xds import protos
from l7proxy.xds.types import Encoded, Type, encode

_FILTER_CHAIN = "envoy.config.listener.v3.FilterChain"


@dataclass(frozen=True)
class ProxyOptions:
    """What the resources of one node have in common."""

    access_log_path: str
    source_addresses: tuple[str, ...] = ()
    ipv6: bool = True


@dataclass(frozen=True, slots=True)
class BackendResources:
    cluster: Encoded
    endpoints: Encoded


@dataclass(frozen=True, slots=True)
class PortResources:
    """``chain`` is a part of the listener; ``clusters`` are those that the routes name."""

    routes: Encoded
    chain: bytes
    clusters: frozenset[str]


@dataclass(frozen=True)
class Resources:
    """What Envoy should have for ``view``, by ``port_name``."""

    view: View = field(default_factory=View)
    backends: Mapping[str, BackendResources] = field(default_factory=dict)
    ports: Mapping[str, PortResources] = field(default_factory=dict)

    def offered(self, kind: Type) -> dict[str, Encoded]:
        """The resources of one kind by name. The listener is made by ``listener`` when needed."""
        match kind:
            case Type.CLUSTER:
                return {name: b.cluster for name, b in self.backends.items()}
            case Type.ENDPOINTS:
                return {name: b.endpoints for name, b in self.backends.items()}
            case Type.ROUTES:
                return {name: p.routes for name, p in self.ports.items()}
            case Type.LISTENER:
                return {}

    def needs(self, port: str) -> frozenset[str]:
        """The clusters that have to be warm before the routes of ``port`` may use them."""
        return self.ports[port].clusters & self.backends.keys()

    def named_clusters(self) -> frozenset[str]:
        """Every cluster that some route names, whether or not it exists."""
        return frozenset().union(*(port.clusters for port in self.ports.values()))


def build(view: View, options: ProxyOptions, before: Resources | None = None) -> Resources:
    """Every resource of ``view``, encoded; unchanged ones are taken over from ``before``."""
    old = before or Resources()
    backends = {}
    for ref, backend in view.backends.items():
        name = port_name(ref)
        same = old.view.backends.get(ref) == backend
        backends[name] = old.backends[name] if same else _backend(backend, options)
    ports = {}
    for ref, port in view.ports.items():
        name = port_name(ref)
        same = old.view.ports.get(ref) == port
        ports[name] = old.ports[name] if same else _port(port, options)
    return Resources(view, backends, ports)


def listener(resources: Resources, names: Iterable[str], options: ProxyOptions) -> Encoded:
    """The listener that serves the service ports ``names``."""
    chains = [resources.ports[name].chain for name in sorted(names)]
    return encode(Type.LISTENER, outbound(chains, ipv6=options.ipv6))


def render(view: View, options: ProxyOptions) -> dict[str, list[Json]]:
    """The same resources as JSON values in Envoy's bootstrap form, for people and for tests."""
    chains = [filter_chain(port, options.access_log_path) for port in view.ports.values()]
    return {
        "listeners": [outbound(chains, ipv6=options.ipv6)] if chains else [],
        "routes": [route_configuration(port) for port in view.ports.values()],
        "clusters": [cluster(b, options.source_addresses) for b in view.backends.values()],
        "endpoints": [load_assignment(b) for b in view.backends.values()],
    }


def _backend(backend: Backend, options: ProxyOptions) -> BackendResources:
    return BackendResources(
        encode(Type.CLUSTER, cluster(backend, options.source_addresses)),
        encode(Type.ENDPOINTS, load_assignment(backend)),
    )


def _port(port: ProxiedPort, options: ProxyOptions) -> PortResources:
    return PortResources(
        encode(Type.ROUTES, route_configuration(port)),
        protos.encode(_FILTER_CHAIN, filter_chain(port, options.access_log_path)),
        frozenset(port_name(ref) for route in port.routes for ref in backend_refs(route)),
    )
