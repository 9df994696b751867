"""What the mesh wants of this node, indexed. Pure: a state never changes, it is advanced.

``build`` indexes a whole snapshot; ``advance`` shares with the state before all that the changed
objects do not touch (persistent maps), so that a change in a large mesh costs what it is about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from immutables import Map

from meshapi.resources import (
    AuthorizationPolicy,
    BlockList,
    ClusterNetworkPolicy,
    HTTPRoute,
    Key,
    MeshNode,
    Namespace,
    NetworkPolicy,
    Quarantine,
    Resource,
    Service,
    TrafficPolicy,
    Workload,
)
from meshapi.selectors import NAMESPACE_NAME_LABEL, contains
from meshapi.watch import Snapshot
from meshapi.wire import MeshSettings

Name = tuple[str, str]  # namespace, name
Label = tuple[str, str, str]  # namespace, key, value
T = TypeVar("T", bound=Resource)

Policy = NetworkPolicy | ClusterNetworkPolicy | AuthorizationPolicy
POLICIES: tuple[type[Policy], ...] = (NetworkPolicy, ClusterNetworkPolicy, AuthorizationPolicy)

# Kinds that are looked up by name only: where a state keeps them.
_PLAIN: dict[type[Resource], str] = {
    Namespace: "namespaces",
    MeshNode: "nodes",
    Service: "services",
    Workload: "workloads",
    NetworkPolicy: "policies",
    ClusterNetworkPolicy: "policies",
    AuthorizationPolicy: "policies",
    HTTPRoute: "routes",
    TrafficPolicy: "traffic_policies",
    Quarantine: "quarantines",
    BlockList: "block_lists",
}
_PLACES = {kind.__name__: place for kind, place in _PLAIN.items()}


@dataclass(frozen=True)
class Index:
    """Names by what leads to them. A tuple is in the order of names."""

    on_node: Map[str, tuple[Name, ...]] = field(default_factory=Map)
    in_namespace: Map[str, tuple[Name, ...]] = field(default_factory=Map)
    labelled: Map[Label, tuple[Name, ...]] = field(default_factory=Map)
    identified: Map[int, tuple[Name, ...]] = field(default_factory=Map)  # by identity number
    at_address: Map[str, tuple[Name, ...]] = field(default_factory=Map)  # network: pod only
    selecting: Map[Label, tuple[Name, ...]] = field(default_factory=Map)  # services
    virtual: Map[str, tuple[Name, ...]] = field(default_factory=Map)  # services
    node_at: Map[str, tuple[str, ...]] = field(default_factory=Map)
    proxy_at: Map[str, tuple[str, ...]] = field(default_factory=Map)
    routed: Map[Name, tuple[Name, ...]] = field(default_factory=Map)  # service -> routes of it
    routed_to: Map[Name, tuple[Name, ...]] = field(default_factory=Map)  # service -> routes to it
    targeting: Map[Name, tuple[Name, ...]] = field(default_factory=Map)  # service -> its policies
    quarantined: Map[Name, tuple[Name, ...]] = field(default_factory=Map)  # workload -> by whom
    guests: Map[Name, tuple[Name, ...]] = field(default_factory=Map)  # workload -> let in by whom


@dataclass(frozen=True)
class NodeState:
    """One revision's objects, by what they are looked up by."""

    node: str
    revision: int = 0
    mesh: MeshSettings = field(default_factory=MeshSettings)
    namespaces: Map[str, Namespace] = field(default_factory=Map)
    nodes: Map[str, MeshNode] = field(default_factory=Map)
    services: Map[Name, Service] = field(default_factory=Map)
    workloads: Map[Name, Workload] = field(default_factory=Map)
    policies: Map[Key, Policy] = field(default_factory=Map)
    routes: Map[Name, HTTPRoute] = field(default_factory=Map)
    traffic_policies: Map[Name, TrafficPolicy] = field(default_factory=Map)
    quarantines: Map[Name, Quarantine] = field(default_factory=Map)
    block_lists: Map[str, BlockList] = field(default_factory=Map)
    index: Index = field(default_factory=Index)

    @property
    def local(self) -> list[Workload]:
        """This node's own workloads."""
        return [self.workloads[name] for name in self.index.on_node.get(self.node, ())]

    def find(self, key: Key) -> Resource | None:
        """An object by its kind and name."""
        place = _PLACES[key.kind]
        found: Resource | None = getattr(self, place).get(_place_key(key, place))
        return found

    def objects(self) -> Iterator[Resource]:
        for place in dict.fromkeys(_PLAIN.values()):
            yield from getattr(self, place).values()

    def namespace_labels(self, namespace: str) -> dict[str, str]:
        """A namespace's labels; its name is always among them."""
        found = self.namespaces.get(namespace)
        labels = found.metadata.labels if found else {}
        return {**labels, NAMESPACE_NAME_LABEL: namespace}

    def selected(self, service: Service) -> list[Workload]:
        """The workloads that a service selects, in a stable order."""
        selector = service.spec.selector
        if not selector:
            return []
        namespace = service.metadata.namespace
        candidates = min(
            (self.index.labelled.get((namespace, k, v), ()) for k, v in selector.items()), key=len
        )
        found = (self.workloads[name] for name in candidates)
        return [w for w in found if contains(w.metadata.labels, selector)]

    def backends(self, service: Service) -> list[Workload]:
        """Those of them that serve."""
        return [workload for workload in self.selected(service) if self.serves(workload)]

    def serves(self, workload: Workload) -> bool:
        """Whether a workload is ready and not cut off."""
        return workload.status.ready and self.quarantine_of(name_of(workload)) is None

    def services_of(self, workload: Workload) -> Iterator[Name]:
        """The services that select a workload."""
        labels = workload.metadata.labels
        found = dict.fromkeys(
            name
            for key, value in labels.items()
            for name in self.index.selecting.get((workload.metadata.namespace, key, value), ())
        )
        for name in found:
            if contains(labels, self.services[name].spec.selector):
                yield name

    def traffic_policy(self, service: Name) -> TrafficPolicy | None:
        """The policy that targets a service."""
        found = self.index.targeting.get(service, ())
        return self.traffic_policies[found[0]] if found else None

    def quarantine_of(self, workload: Name) -> Quarantine | None:
        """The quarantine that a workload is under (the first by name)."""
        found = self.index.quarantined.get(workload, ())
        return self.quarantines[found[0]] if found else None

    def addresses(self, workload: Workload) -> tuple[str, ...]:
        """Where a workload is reached: its own addresses or, in the host's network, its node's."""
        if workload.spec.network == "pod":
            return workload.spec.addresses
        node = self.nodes.get(workload.spec.node_name)
        return node.spec.addresses if node else ()


@dataclass(frozen=True)
class Changes:
    """What differs between two states: the changed objects as they were and as they are."""

    old: Mapping[Key, Resource] = field(default_factory=dict)
    new: Mapping[Key, Resource] = field(default_factory=dict)

    def of(self, *kinds: type[T]) -> Iterator[T]:
        """Every changed object of these kinds, in its old and in its new form."""
        for side in (self.old, self.new):
            for resource in side.values():
                if isinstance(resource, kinds):
                    yield resource


def build(node: str, snapshot: Snapshot) -> NodeState:
    """Index a snapshot."""
    return advance(NodeState(node), snapshot, Changes({}, snapshot.objects))


def advance(state: NodeState, snapshot: Snapshot, changes: Changes) -> NodeState:
    """The state of a snapshot that differs by ``changes`` from ``state``'s."""
    places: dict[str, Any] = {}
    for key, resource in changes.old.items():
        if key not in changes.new:
            place = _PLAIN[type(resource)]
            _mutable(places, state, place).pop(_place_key(key, place))
    for key, resource in changes.new.items():
        place = _PLAIN[type(resource)]
        _mutable(places, state, place)[_place_key(key, place)] = resource
    return replace(
        state,
        revision=snapshot.revision,
        mesh=snapshot.mesh,
        index=_reindexed(state.index, changes),
        **{place: mutation.finish() for place, mutation in places.items()},
    )


def difference(before: Mapping[Key, Resource], snapshot: Snapshot) -> Changes:
    """What a snapshot changes, by its own word if it has one, otherwise by comparison."""
    after = snapshot.objects
    keys: Iterable[Key] = {*before, *after} if snapshot.changed is None else snapshot.changed
    old, new = {}, {}
    for key in keys:
        was, now = before.get(key), after.get(key)
        if was is now or was == now:
            continue
        if was is not None:
            old[key] = was
        if now is not None:
            new[key] = now
    return Changes(old, new)


def name_of(resource: Resource) -> Name:
    return resource.metadata.namespace, resource.metadata.name


# -- indexing ------------------------------------------------------------------------------------


def _mutable(places: dict[str, Any], state: NodeState, place: str) -> Any:
    if place not in places:
        places[place] = getattr(state, place).mutate()
    return places[place]


def _place_key(key: Key, place: str) -> object:
    if place == "policies":
        return key
    return (key.namespace, key.name) if key.namespace else key.name


Entry = tuple[str, object, object]  # index, key in it, the name that it leads to


def _reindexed(index: Index, changes: Changes) -> Index:
    gone: dict[tuple[str, object], set[object]] = {}
    come: dict[tuple[str, object], set[object]] = {}
    for resources, found in ((changes.old, gone), (changes.new, come)):
        for resource in resources.values():
            for name, key, value in _entries(resource):
                found.setdefault((name, key), set()).add(value)
    touched: dict[str, Any] = {}
    for place in dict.fromkeys((*gone, *come)):
        name, key = place
        leaving, coming = gone.get(place, set()), come.get(place, set())
        if leaving == coming:
            continue
        if name not in touched:
            touched[name] = getattr(index, name).mutate()
        held = touched[name].get(key, ())
        kept = [value for value in held if value not in leaving] + list(coming)
        if kept:
            touched[name][key] = tuple(sorted(set(kept)))
        else:
            del touched[name][key]
    return replace(index, **{name: mutation.finish() for name, mutation in touched.items()})


def _entries(resource: Resource) -> Iterator[Entry]:
    entries = _ENTRIES.get(type(resource))
    if entries is not None:
        yield from entries(resource)


def _workload(workload: Workload) -> Iterator[Entry]:
    name = name_of(workload)
    yield "on_node", workload.spec.node_name, name
    yield "in_namespace", name[0], name
    yield "identified", workload.status.identity, name
    for label in workload.metadata.labels.items():
        yield "labelled", (name[0], *label), name
    if workload.spec.network == "pod":
        for address in workload.spec.addresses:
            yield "at_address", address, name


def _service(service: Service) -> Iterator[Entry]:
    name = name_of(service)
    for label in service.spec.selector.items():
        yield "selecting", (name[0], *label), name
    for address in service.spec.addresses:
        yield "virtual", address, name


def _node(node: MeshNode) -> Iterator[Entry]:
    for address in node.spec.addresses:
        yield "node_at", address, node.metadata.name
    for address in node.spec.proxy_addresses:
        yield "proxy_at", address, node.metadata.name


def _route(route: HTTPRoute) -> Iterator[Entry]:
    name = name_of(route)
    for parent in route.spec.parent_refs:
        yield "routed", (parent.namespace or name[0], parent.name), name
    for rule in route.spec.rules:
        for backend in rule.backend_refs:
            yield "routed_to", (name[0], backend.name), name


def _traffic_policy(policy: TrafficPolicy) -> Iterator[Entry]:
    name = name_of(policy)
    for target in policy.spec.target_refs:
        yield "targeting", (name[0], target.name), name


def _quarantine(quarantine: Quarantine) -> Iterator[Entry]:
    name = name_of(quarantine)
    yield "quarantined", (name[0], quarantine.spec.workload), name
    for guest in quarantine.spec.allow_from:
        if guest.workload:
            yield "guests", (guest.namespace, guest.workload), name


_ENTRIES: dict[type[Resource], Callable[[Any], Iterator[Entry]]] = {
    Workload: _workload,
    Service: _service,
    MeshNode: _node,
    HTTPRoute: _route,
    TrafficPolicy: _traffic_policy,
    Quarantine: _quarantine,
}
