"""Services: virtual addresses, slot tables, and which service ports go to the node proxy. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from meshapi.resources import HTTPRoute, Service, ServicePort, Workload
from nodeagent.desired.classes import Blocks, Member, Shared, of_workload
from nodeagent.state import NodeState, target_port

PortName = tuple[str, str, int]  # namespace, service, port


@dataclass(frozen=True)
class Backend:
    """An address and port actually dialled, and whose it is."""

    workload: Workload
    address: str
    port: int
    member: Member


@dataclass(frozen=True)
class VirtualPort:
    """One port of a service at one of its virtual addresses.

    ``redirect`` is None for a direct service, otherwise the class that stands for everything the
    node proxy may send its requests to.
    """

    service: PortName
    address: str
    port: int
    protocol: str
    backends: tuple[Backend, ...]
    redirect: Shared | None


def virtual_ports(
    state: NodeState, blocks: Blocks, redirected: frozenset[PortName]
) -> Iterator[VirtualPort]:
    """Every virtual address and port that this node knows."""
    for (namespace, name), service in sorted(state.services.items()):
        for address in service.spec.cluster_ips:
            version = ip_address(address).version
            for port in service.spec.ports:
                key = (namespace, name, port.port)
                proxied = key in redirected and port.protocol == "TCP"
                yield VirtualPort(
                    service=key,
                    address=address,
                    port=port.port,
                    protocol=port.protocol,
                    backends=tuple(backends(state, blocks, service, port, version)),
                    redirect=_behind(state, blocks, service, port) if proxied else None,
                )


def backends(
    state: NodeState, blocks: Blocks, service: Service, port: ServicePort, version: int
) -> Iterator[Backend]:
    """A service port's backends of one IP version."""
    for workload in state.backends(service):
        number = target_port(workload, port.protocol, port.port, port.target_port)
        if not number:
            continue
        member = of_workload(state, blocks, workload, version)
        for address in state.addresses(workload):
            if ip_address(address).version == version:
                yield Backend(workload, address, number, member)
                break


def routes_of(state: NodeState, service: Service, port: ServicePort) -> list[HTTPRoute]:
    """The HTTPRoutes whose parent is this service port."""
    meta = service.metadata
    return [
        route
        for route in state.routes
        if any(
            (ref.namespace or route.metadata.namespace, ref.name) == (meta.namespace, meta.name)
            and ref.port in (None, port.port)
            for ref in route.spec.parent_refs
        )
    ]


def _behind(state: NodeState, blocks: Blocks, service: Service, port: ServicePort) -> Shared:
    """Every workload that a route of this service port may send to, with the port used there."""
    found: set[tuple[Member, int | None]] = set()
    routes = routes_of(state, service, port)
    if not routes:  # just removed, and the proxy has not heard of it yet
        found |= {(b.member, b.port) for b in _every(state, blocks, service, port)}
    for route in routes:
        for ref in (ref for rule in route.spec.rules for ref in rule.backend_refs):
            target = state.services.get((route.metadata.namespace, ref.name))
            for target_service_port in target.spec.ports if target else ():
                if target is None or target_service_port.port != ref.port:
                    continue
                every = _every(state, blocks, target, target_service_port)
                found |= {(b.member, b.port) for b in every}
    return Shared(frozenset(found))


def _every(
    state: NodeState, blocks: Blocks, service: Service, port: ServicePort
) -> Iterator[Backend]:
    for version in (4, 6):
        yield from backends(state, blocks, service, port, version)
