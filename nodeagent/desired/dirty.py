"""Which units a change may touch. Pure; too many is slow, too few is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from meshapi.resources import (
    BlockList,
    HTTPRoute,
    MeshNode,
    Namespace,
    Quarantine,
    Service,
    TrafficPolicy,
    Workload,
)
from meshapi.resources.traffic import locality
from nodeagent.desired.spread import zone_of
from nodeagent.desired.units import BLOCKED, BLOCKS, DOMAINS, NODE, RESOLVERS, Facts, Unit
from nodeagent.state import Changes, Name, NodeState, name_of


def everything(state: NodeState, facts: Facts) -> set[Unit]:
    """Every unit that a state has."""
    index = state.index
    addresses = {*index.virtual, *index.node_at, *index.proxy_at, *index.at_address}
    units: set[Unit] = {("address", a) for a in (*addresses, facts.proxy4, facts.proxy6) if a}
    units |= {("service", *name) for name in state.services}
    units |= {(kind, node) for node in index.on_node for kind in ("listeners", "residents")}
    units |= {("local", *name) for name in index.on_node.get(state.node, ())}
    units |= {("interface", str(number)) for number in facts.interfaces.ends}
    return units | {NODE, BLOCKS, DOMAINS, RESOLVERS, BLOCKED}


def touched_workloads(state: NodeState, changes: Changes) -> set[Name]:
    """The workloads that may be somebody else to policies; ``state`` is that after the changes."""
    names = {name_of(workload) for workload in changes.of(Workload)}
    for namespace in changes.of(Namespace):
        names.update(state.index.in_namespace.get(namespace.metadata.name, ()))
    for node in changes.of(MeshNode):
        names.update(_in_host_network(state, node.metadata.name))
    for quarantine in changes.of(Quarantine):
        names.add((quarantine.metadata.namespace, quarantine.spec.workload))
        names.update(
            (guest.namespace, guest.workload)
            for guest in quarantine.spec.allow_from
            if guest.workload
        )
    return names


def units(
    before: NodeState, after: NodeState, changes: Changes, names: Iterable[Name]
) -> set[Unit]:
    """The units that changed objects, and the workloads ``names``, are part of."""
    found: set[Unit] = set()
    services = set(_named_services(changes))
    if zone_of(before, after.node) != zone_of(after, after.node):
        services |= set(_by_zone(after))
    named = frozenset(services)
    for state in (before, after):
        found |= set(_behind(state, named))
        for name in names:
            workload = state.workloads.get(name)
            if workload is not None:
                found |= set(_of_workload(state, workload))
                services.update(state.services_of(workload))
        for node in changes.of(MeshNode):
            for name in state.index.on_node.get(node.metadata.name, ()):
                services.update(state.services_of(state.workloads[name]))
    for node in changes.of(MeshNode):
        found |= set(_of_node(after, node))
    for service in changes.of(Service):
        found |= {("address", address) for address in service.spec.addresses}
    found |= _blocked(after, changes)
    for state in (before, after):
        services |= {parent for name in services for parent in _routing_to(state, name)}
    return found | {("service", *name) for name in services}


def by_facts(before: Facts, after: Facts) -> set[Unit]:
    """The units that what the node itself knows is part of."""
    names = {
        name
        for name in {*before.cgroups, *after.cgroups}
        if before.cgroups.get(name) != after.cgroups.get(name)
    }
    found: set[Unit] = {("local", *name) for name in names}
    found |= {("service", port[0], port[1]) for port in before.redirected ^ after.redirected}
    old, new = before.interfaces.ends, after.interfaces.ends
    found |= {("interface", str(i)) for i in {*old, *new} if old.get(i) != new.get(i)}
    if before.resolvers != after.resolvers:
        found.add(RESOLVERS)
    if (before.proxy4, before.proxy6) != (after.proxy4, after.proxy6):
        addresses = (before.proxy4, before.proxy6, after.proxy4, after.proxy6)
        found |= {("address", address) for address in addresses if address}
    return found


def behind_interfaces(stale: set[Unit], facts: Facts) -> set[Unit]:
    """The interfaces behind which workloads live whose units are stale."""
    return {
        ("interface", str(index))
        for index, end in facts.interfaces.ends.items()
        if any(("local", *name) in stale for name in end.workloads)
    }


def by_health(before: Facts, after: Facts, state: NodeState) -> set[Unit]:
    """The units that the health of our own workloads is part of."""
    names = {
        name
        for name in {*before.unhealthy, *after.unhealthy}
        if before.unhealthy.get(name) != after.unhealthy.get(name)
    }
    found = (state.workloads[name] for name in names if name in state.workloads)
    return {("service", *service) for workload in found for service in state.services_of(workload)}


def _blocked(after: NodeState, changes: Changes) -> set[Unit]:
    """What block lists are about: the addresses, of which some may be one of our own pods'."""
    if not any(True for _ in changes.of(BlockList)):
        return set()
    return {BLOCKED} | {("local", *name) for name in after.index.on_node.get(after.node, ())}


def _named_services(changes: Changes) -> Iterator[Name]:
    """The services that changed objects are or are about."""
    for service in changes.of(Service):
        yield name_of(service)
    for route in changes.of(HTTPRoute):
        for parent in route.spec.parent_refs:
            yield (parent.namespace or route.metadata.namespace, parent.name)
    for policy in changes.of(TrafficPolicy):
        for target in policy.spec.target_refs:
            yield (policy.metadata.namespace, target.name)


def _by_zone(state: NodeState) -> Iterator[Name]:
    """The services that prefer backends by this node's zone."""
    for name, service in state.services.items():
        if locality(service, state.traffic_policy(name)) != "None":
            yield name


def _behind(state: NodeState, services: Iterable[Name]) -> Iterator[Unit]:
    """Our own workloads behind services: what bounds those who come to them may be another."""
    for name in services:
        for workload in state.selected(state.services[name]) if name in state.services else ():
            if workload.spec.node_name == state.node:
                yield ("local", *name_of(workload))


def _of_workload(state: NodeState, workload: Workload) -> Iterator[Unit]:
    node = workload.spec.node_name
    if node == state.node:
        yield ("local", *name_of(workload))
    else:
        yield ("residents", node)
    if workload.spec.network == "host":
        yield ("listeners", node)
    for address in state.addresses(workload):
        yield ("address", address)


def _of_node(state: NodeState, node: MeshNode) -> Iterator[Unit]:
    yield ("listeners", node.metadata.name)
    for address in (*node.spec.addresses, *node.spec.proxy_addresses):
        yield ("address", address)
    if node.metadata.name == state.node:
        yield NODE


def _in_host_network(state: NodeState, node: str) -> Iterator[Name]:
    for name in state.index.on_node.get(node, ()):
        if state.workloads[name].spec.network == "host":
            yield name


def _routing_to(state: NodeState, service: Name) -> Iterator[Name]:
    """The services whose routes may send to a service."""
    for name in state.index.routed_to.get(service, ()):
        for parent in state.routes[name].spec.parent_refs:
            yield (parent.namespace or name[0], parent.name)
