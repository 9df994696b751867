"""Services: virtual addresses, slot tables, backends, and what goes to the node proxy. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from meshapi.backends import target_port
from meshapi.resources import HTTPRoute, Service, ServicePort, Workload
from nodeagent import layout
from nodeagent.desired.addresses import local_flags
from nodeagent.desired.alias import alias_table
from nodeagent.desired.numbers import number, number_of
from nodeagent.desired.units import PortName, Sheet
from nodeagent.layout import address_bytes, port_bytes, version_of
from nodeagent.policy.members import Member, Shared
from nodeagent.state import Name, name_of


@dataclass(frozen=True)
class Backend:
    """An address and port actually dialled, and whose it is."""

    workload: Workload
    address: str
    port: int
    member: Member


def service(sheet: Sheet, name: Name) -> None:
    """Every virtual address and port of a service."""
    found = sheet.state.services.get(name)
    for port in found.spec.ports if found else ():
        if found is not None:
            _port(sheet, found, port)


def service_number(namespace: str, name: str, port: int, protocol: str) -> int:
    """The number of a service's port in the kernel."""
    return number(namespace, name, port, protocol)


def backends(sheet: Sheet, owner: Service, port: ServicePort, version: int) -> Iterator[Backend]:
    """A service port's backends of one IP version: ready, and not cut off."""
    state = sheet.state
    for workload in state.backends(owner):
        reached = target_port(workload, port)
        if not reached:
            continue
        for text in state.addresses(workload):
            if version_of(text) == version:
                member = sheet.ends.workload(workload, version)
                yield Backend(workload, text, reached, member)
                break


def _port(sheet: Sheet, owner: Service, port: ServicePort) -> None:
    key: PortName = (*name_of(owner), port.port)
    number_ = service_number(*key, port.protocol)
    sheet.services[number_] = key
    proxied = key in sheet.facts.redirected and port.protocol == "TCP"
    by_version: dict[int, bytes] = {}
    for address in owner.spec.addresses:
        version = version_of(address)
        if version not in by_version:
            by_version[version] = (
                _redirected(sheet, owner, port, number_)
                if proxied
                else _balanced(sheet, number_, list(backends(sheet, owner, port, version)))
            )
        end = layout.ENDPOINT.pack(
            address_bytes(address), port_bytes(port.port), layout.PROTOCOLS[port.protocol]
        )
        sheet.put("services", end, by_version[version])


def _redirected(sheet: Sheet, owner: Service, port: ServicePort, number_: int) -> bytes:
    """To the node proxy; one class stands for everything that it may send requests to."""
    class_ = sheet.number(_behind(sheet, owner, port))
    flags = sheet.closed(class_)
    return layout.SERVICE.pack(number_, class_, 0, 0, flags, layout.SERVICE_REDIRECT)


def _balanced(sheet: Sheet, number_: int, found: list[Backend]) -> bytes:
    """To one of its backends, drawn from a slot table that they and their weights give."""
    ids = [_backend(sheet, number_, backend) for backend in found]
    rows = alias_table([1] * len(ids))
    epoch = number_of(b"".join(id_.to_bytes(4, "little") for id_ in ids))
    for index, (first, second, threshold) in enumerate(rows):
        key = layout.SLOT_KEY.pack(number_, epoch, index)
        sheet.put("slots", key, layout.SLOT.pack(ids[first], ids[second], threshold))
    return layout.SERVICE.pack(number_, 0, len(rows), epoch, 0, layout.SERVICE_LB)


def _backend(sheet: Sheet, service_: int, backend: Backend) -> int:
    """Its entry; the id stands for this backend of this service port."""
    class_ = sheet.number(backend.member)
    end = address_bytes(backend.address) + port_bytes(backend.port)
    id_ = number_of(service_.to_bytes(4, "little") + end)
    value = layout.BACKEND.pack(
        end[:16],
        end[16:],
        local_flags(sheet, backend.workload, class_),
        backend.workload.status.identity,
        class_,
    )
    sheet.put("backends", layout.BACKEND_KEY.pack(id_), value)
    return id_


def _behind(sheet: Sheet, owner: Service, port: ServicePort) -> Shared:
    """Every workload that a route of this service port may send to, with the port used there."""
    found: set[tuple[Member, int | None]] = set()
    routes = _routes(sheet, owner, port)
    if not routes:  # just removed, and the proxy has not heard of it yet
        found |= {(b.member, b.port) for b in _every(sheet, owner, port)}
    for route in routes:
        for ref in (ref for rule in route.spec.rules for ref in rule.backend_refs):
            target = sheet.state.services.get((route.metadata.namespace, ref.name))
            for target_port_ in target.spec.ports if target else ():
                if target is not None and target_port_.port == ref.port:
                    found |= {(b.member, b.port) for b in _every(sheet, target, target_port_)}
    return Shared(frozenset(found))


def _routes(sheet: Sheet, owner: Service, port: ServicePort) -> list[HTTPRoute]:
    """The HTTPRoutes whose parent is this service port."""
    name = name_of(owner)
    routes = (sheet.state.routes[r] for r in sheet.state.index.routed.get(name, ()))
    return [
        route
        for route in routes
        if any(
            (ref.namespace or route.metadata.namespace, ref.name) == name
            and ref.port in (None, port.port)
            for ref in route.spec.parent_refs
        )
    ]


def _every(sheet: Sheet, owner: Service, port: ServicePort) -> Iterator[Backend]:
    for version in (4, 6):
        yield from backends(sheet, owner, port, version)
