"""What the hooks of one node know of the ends, and so decide."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any, NamedTuple

from meshapi.resources import BlockList, HTTPRoute, MeshNode, Service, Workload
from meshapi.verdict import Reason, Verdict
from tests.unit.nodeagent.reference.deciding import decide
from tests.unit.nodeagent.reference.mesh import (
    End,
    Protocol,
    World,
    ends_at,
    name,
    version_of,
    workload_end,
)
from tests.unit.nodeagent.reference.verdicts import Refusal


class Outcome(NamedTuple):
    """``to`` is the address and port actually dialled, "proxy", or "" when refused."""

    verdict: Verdict
    strict: bool = False
    to: str = ""
    refusals: tuple[Refusal, ...] = ()


REFUSED = Outcome(Verdict.DENY)  # not by policy


def connect(
    world: World,
    redirected: frozenset[tuple[str, str, int]],
    source: Workload,
    address: str,
    protocol: Protocol,
    port: int,
) -> list[Outcome]:
    """Every outcome of a connect() of a workload on its own node: one for each backend.

    None, if it goes to the node proxy and nobody is behind that: then nothing can be reached.
    """
    if source.spec.network == "pod" and (blocked := blocking(world, *source.spec.addresses)):
        return [blocked]
    caller = workload_end(world, source, version_of(address))
    for service in world.every(Service):
        if address in service.spec.addresses:
            found = [p for p in service.spec.ports if (p.protocol, p.port) == (protocol, port)]
            if not found:
                return [REFUSED]
            if protocol == "TCP" and (*name(service), port) in redirected:
                behind = [(caller, end, p) for end, p in _behind(world, service, found[0])]
                return [_all_of(behind, protocol, world, "proxy")] if behind else []
            backends = list(_backends(world, service, found[0], version_of(address)))
            return [
                blocking(world, at) or _all_of([(caller, end, to)], protocol, world, f"{at}:{to}")
                for end, at, to in backends
            ] or [REFUSED]
    if blocked := blocking(world, address):
        return [blocked]
    ends = ends_at(world, address, (protocol, port))
    if is_own(world, source.spec.node_name, address) and not any(
        (protocol, port) in {(p.protocol, p.port) for p in e.workload.spec.ports}
        for e in ends
        if e.workload
    ):
        ends = [End((address,))] if world.quarantines_of(source) else []
    return [_all_of([(caller, end, port) for end in ends], protocol, world, f"{address}:{port}")]


def accept(
    world: World,
    destination: Workload,
    remote: str,
    protocol: Protocol,
    port: int,
    claimed: Workload | None = None,
) -> Outcome:
    """What becomes of a SYN or datagram for a workload on its own node.

    ``claimed`` is who a SYN says to come from, under the keys of the node whose address that is.
    Nobody else has vouched for the caller.
    """
    if blocked := blocking(world, remote):
        return blocked
    if claimed is not None:
        there = claimed.spec.node_name
        if there == destination.spec.node_name or nodes_of(world, remote) != {there}:
            return REFUSED
        caller, called = (
            workload_end(world, w, version_of(remote)) for w in (claimed, destination)
        )
        return _all_of([(caller, called, port)], protocol, world)
    found = _accept_by_address(world, destination, remote, protocol, port)
    return REFUSED if found.strict else found


def nodes_of(world: World, address: str) -> set[str]:
    """Whose address it is, or on which node the workloads run that have it."""
    owners = {
        n.metadata.name
        for n in world.every(MeshNode)
        if address in (*n.spec.addresses, *n.spec.proxy_addresses)
    }
    return owners or {
        w.spec.node_name for w in world.every(Workload) if address in w.spec.addresses
    }


def _accept_by_address(
    world: World, destination: Workload, remote: str, protocol: Protocol, port: int
) -> Outcome:
    quarantined = bool(world.quarantines_of(destination))
    proxies = {a for n in world.every(MeshNode) for a in n.spec.proxy_addresses}
    own = is_own(world, destination.spec.node_name, remote)
    if (own or remote in proxies) and not quarantined:
        return Outcome(Verdict.ALLOW)
    called = workload_end(world, destination, version_of(remote))
    return _all_of([(end, called, port) for end in ends_at(world, remote)], protocol, world)


def connect_unenrolled(
    world: World, node: MeshNode, address: str, protocol: Protocol, port: int
) -> Outcome:
    """A process of a node that belongs to no workload; other nodes know it by its address only."""
    own = next((a for a in node.spec.addresses if version_of(a) == version_of(address)), None)
    caller = End((own,), None, node) if own else End(())
    services = {a for s in world.every(Service) for a in s.spec.addresses}
    ends = ends_at(world, address)
    here = {e.workload.spec.node_name for e in ends if e.workload} == {node.metadata.name}
    if address in services or here or is_own(world, node.metadata.name, address):
        return Outcome(Verdict.ALLOW)
    return _all_of([(caller, end, port) for end in ends], protocol, world)


def is_own(world: World, node: str, address: str) -> bool:
    return any(
        n.metadata.name == node and address in n.spec.addresses for n in world.every(MeshNode)
    )


def blocking(world: World, *addresses: str) -> Outcome | None:
    """The refusal if some block list holds an address; IPv4 lies in no block of IPv6."""
    rules = frozenset(
        (blocks.kind, frozenset({blocks.metadata.name}), f"cidrs[{index}]")
        for blocks in world.every(BlockList)
        for index, cidr in enumerate(blocks.spec.cidrs)
        for address in addresses
        if ipaddress.ip_address(address) in ipaddress.ip_network(cidr)
    )
    return Outcome(Verdict.DENY, refusals=(Refusal(Reason.BLOCKED, rules),)) if rules else None


def _all_of(
    flows: list[tuple[End, End, int]], protocol: Protocol, world: World, to: str = ""
) -> Outcome:
    """Who cannot be told apart: all of them must be allowed."""
    decided = [decide(world, source, end, protocol, port) for source, end, port in flows]
    refusals = tuple(r for d in decided for r in d.refusals)
    verdicts = {d.verdict for d in decided}
    if Verdict.DENY in verdicts:
        refusing = tuple(r for d in decided if d.verdict is Verdict.DENY for r in d.refusals)
        return Outcome(Verdict.DENY, refusals=refusing)
    verdict = Verdict.AUDIT if Verdict.AUDIT in verdicts else Verdict.ALLOW
    return Outcome(verdict, any(d.strict for d in decided), to, refusals)


def _backends(
    world: World, service: Service, port: Any, version: int
) -> Iterator[tuple[End, str, int]]:
    """Ready, not cut off, with the target port and an address of the IP version."""
    wanted = service.spec.selector
    for workload in world.every(Workload):
        labels = workload.metadata.labels
        if (
            not wanted
            or workload.metadata.namespace != service.metadata.namespace
            or any(labels.get(k) != v for k, v in wanted.items())
            or not workload.status.ready
            or world.quarantines_of(workload)
        ):
            continue
        target = port.port if port.target_port is None else port.target_port
        if isinstance(target, str):
            named = (p for p in workload.spec.ports if p.name == target)
            target = next((p.port for p in named if p.protocol == port.protocol), 0)
        end = workload_end(world, workload, version)
        if target and end.addresses:
            yield end, end.addresses[0], target


def _behind(world: World, service: Service, port: Any) -> Iterator[tuple[End, int]]:
    """Everything that the node proxy may send requests for a service's port to."""
    routes = [
        route
        for route in world.every(HTTPRoute)
        if any(
            (p.namespace or route.metadata.namespace, p.name) == name(service)
            and p.port in (None, port.port)
            for p in route.spec.parent_refs
        )
    ]
    targets = [(service, port)] if not routes else []
    for route in routes:
        for ref in (ref for rule in route.spec.rules for ref in rule.backend_refs):
            wanted = (ref.namespace or route.metadata.namespace, ref.name)
            targets += [
                (found, p)
                for found in world.every(Service)
                if name(found) == wanted
                for p in found.spec.ports
                if p.port == ref.port and p.protocol == "TCP"
            ]
    for owner, owned in targets:
        for version in (4, 6):
            for end, _, to in _backends(world, owner, owned, version):
                yield end, to
