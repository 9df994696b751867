"""Services: virtual addresses, slot tables, backends, and what goes to the node proxy. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from meshapi.resources import HTTPRoute, Service, ServicePort
from meshapi.resources.traffic import affinity_seconds
from nodeagent import layout
from nodeagent.desired import limits, spread
from nodeagent.desired.addresses import local_flags
from nodeagent.desired.alias import alias_table
from nodeagent.desired.numbers import number, number_of
from nodeagent.desired.spread import Backend, Share
from nodeagent.desired.units import PortName, Sheet
from nodeagent.layout import End, address_bytes, port_bytes, version_of
from nodeagent.policy.members import Member, Shared
from nodeagent.state import Name, name_of


def service(sheet: Sheet, name: Name) -> None:
    """Every virtual address and port of a service."""
    found = sheet.state.services.get(name)
    for port in found.spec.ports if found else ():
        if found is not None:
            _port(sheet, found, port)


def service_number(namespace: str, name: str, port: int, protocol: str) -> int:
    """The number of a service's port in the kernel."""
    return number(namespace, name, port, protocol)


def backend_number(service_: int, backend: Backend) -> int:
    """Stands for a backend of a service port."""
    return number_of(service_.to_bytes(4, "little") + backend.end)


def _port(sheet: Sheet, owner: Service, port: ServicePort) -> None:
    key: PortName = (*name_of(owner), port.port)
    number_ = service_number(*key, port.protocol)
    sheet.services[number_] = key
    proxied = key in sheet.facts.redirected and port.protocol == "TCP"
    limit = limits.of_service(sheet, name_of(owner))
    by_version: dict[int, bytes] = {}
    for address in owner.spec.addresses:
        version = version_of(address)
        if version not in by_version:
            entry = (
                _redirected(sheet, owner, port, number_)
                if proxied
                else _balanced(sheet, owner, port, version, number_)
            )
            by_version[version] = layout.SERVICE.pack(*entry._replace(limit=limit))
        end = layout.ENDPOINT.pack(
            address_bytes(address), port_bytes(port.port), layout.PROTOCOLS[port.protocol]
        )
        sheet.put("services", end, by_version[version])


def _redirected(sheet: Sheet, owner: Service, port: ServicePort, number_: int) -> layout.Service:
    """To the node proxy; one class stands for everything that it may send requests to."""
    class_ = sheet.number(_behind(sheet, owner, port))
    return layout.Service(
        number_, class_, flags=sheet.closed(class_), action=layout.SERVICE_REDIRECT
    )


def _balanced(
    sheet: Sheet, owner: Service, port: ServicePort, version: int, number_: int
) -> layout.Service:
    """To one of its backends, drawn from a slot table that they and their weights give."""
    policy = sheet.state.traffic_policy(name_of(owner))
    belonging = list(spread.backends(sheet.state, owner, port, version))
    found = spread.shares(sheet.state, sheet.facts, owner, policy, belonging)
    ids = [_backend(sheet, number_, share) for share in found]
    drawn = [(id_, share.weight) for id_, share in zip(ids, found, strict=True) if share.weight]
    rows = alias_table([weight for _, weight in drawn])
    epoch = number_of(b"".join(layout.SLOT_WEIGHT.pack(*pair) for pair in drawn))
    for index, (first, second, threshold) in enumerate(rows):
        key = layout.SLOT_KEY.pack(number_, epoch, index)
        sheet.put("slots", key, layout.SLOT.pack(drawn[first][0], drawn[second][0], threshold))
    ejection = spread.ejection(policy, len(drawn)) if port.protocol == "TCP" else spread.NEVER
    return layout.Service(
        number_,
        slots=len(rows),
        epoch=epoch,
        affinity=affinity_seconds(owner, policy),
        eject_after=ejection.after,
        eject_seconds=ejection.seconds,
        eject_most=ejection.most,
    )


def _backend(sheet: Sheet, service_: int, share: Share) -> int:
    """Its entry, and the number that stands for it."""
    backend = share.backend
    class_ = sheet.number(sheet.ends.workload(backend.workload, version_of(backend.address)))
    end, id_ = backend.end, backend_number(service_, backend)
    flags = local_flags(sheet, backend.workload, class_)
    value = layout.BACKEND.pack(
        end[:16],
        end[16:],
        flags if share.weight else flags | int(End.RESTS),
        backend.workload.status.identity,
        class_,
    )
    sheet.put("backends", layout.BACKEND_KEY.pack(id_), value)
    return id_


def resting(entry: bytes) -> bytes:
    """The entry of a backend that gets nothing new any more."""
    address, port, flags, identity, class_ = layout.BACKEND.unpack(entry)
    return layout.BACKEND.pack(address, port, flags | int(End.RESTS), identity, class_)


def _behind(sheet: Sheet, owner: Service, port: ServicePort) -> Shared:
    """Every workload that a route of this service port may send to, with the port used there."""
    found: set[tuple[Member, int | None]] = set()
    routes = _routes(sheet, owner, port)
    if not routes:  # just removed, and the proxy has not heard of it yet
        found |= set(_every(sheet, owner, port))
    for route in routes:
        for ref in (ref for rule in route.spec.rules for ref in rule.backend_refs):
            target = sheet.state.services.get((route.metadata.namespace, ref.name))
            for target_port_ in target.spec.ports if target else ():
                if target is not None and target_port_.port == ref.port:
                    found |= set(_every(sheet, target, target_port_))
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


def _every(sheet: Sheet, owner: Service, port: ServicePort) -> Iterator[tuple[Member, int | None]]:
    """Who stands behind a service port, and at which port of theirs."""
    for version in (4, 6):
        for backend in spread.backends(sheet.state, owner, port, version):
            yield sheet.ends.workload(backend.workload, version), backend.port
