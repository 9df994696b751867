"""What the mesh wants of this node, indexed. Pure: built from a feed snapshot, never changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from meshapi.resources import (
    HTTPRoute,
    MeshNode,
    Namespace,
    NetworkPolicy,
    Resource,
    Service,
    Workload,
)
from meshapi.selectors import NAMESPACE_NAME_LABEL, contains
from meshapi.watch import Snapshot

Name = tuple[str, str]  # namespace, name
T = TypeVar("T", bound=Resource)


@dataclass(frozen=True)
class NodeState:
    """One revision's objects, by what they are looked up by."""

    node: str
    revision: int = 0
    namespaces: dict[str, Namespace] = field(default_factory=dict)
    nodes: dict[str, MeshNode] = field(default_factory=dict)
    services: dict[Name, Service] = field(default_factory=dict)
    workloads: dict[Name, Workload] = field(default_factory=dict)
    policies: tuple[NetworkPolicy, ...] = ()
    routes: tuple[HTTPRoute, ...] = ()
    workloads_in: dict[str, tuple[Workload, ...]] = field(default_factory=dict)

    @property
    def local(self) -> list[Workload]:
        """This node's own workloads."""
        return [w for w in self.workloads.values() if w.spec.node_name == self.node]

    def namespace_labels(self, namespace: str) -> dict[str, str]:
        """A namespace's labels; its name is always among them."""
        found = self.namespaces.get(namespace)
        labels = found.metadata.labels if found else {}
        return {**labels, NAMESPACE_NAME_LABEL: namespace}

    def backends(self, service: Service) -> list[Workload]:
        """The ready workloads that a service selects, in a stable order."""
        selector = service.spec.selector
        if not selector:
            return []
        candidates = self.workloads_in.get(service.metadata.namespace, ())
        return [w for w in candidates if w.status.ready and contains(w.metadata.labels, selector)]

    def addresses(self, workload: Workload) -> tuple[str, ...]:
        """Where a workload is reached: its own addresses or, in the host's network, its node's."""
        if workload.spec.network == "pod":
            return workload.spec.addresses
        node = self.nodes.get(workload.spec.node_name)
        return node.spec.addresses if node else ()


def build(node: str, snapshot: Snapshot) -> NodeState:
    """Index a snapshot."""
    objects = snapshot.objects.values()
    workloads = {_name(w): w for w in _of(objects, Workload)}
    by_namespace: dict[str, list[Workload]] = defaultdict(list)
    for name in sorted(workloads):
        by_namespace[name[0]].append(workloads[name])
    return NodeState(
        node=node,
        revision=snapshot.revision,
        namespaces={n.metadata.name: n for n in _of(objects, Namespace)},
        nodes={n.metadata.name: n for n in _of(objects, MeshNode)},
        services={_name(s): s for s in _of(objects, Service)},
        workloads=workloads,
        policies=tuple(sorted(_of(objects, NetworkPolicy), key=_name)),
        routes=tuple(sorted(_of(objects, HTTPRoute), key=_name)),
        workloads_in={k: tuple(v) for k, v in by_namespace.items()},
    )


def target_port(workload: Workload, protocol: str, port: int, target: int | str | None) -> int:
    """The port that a service's port means on a workload; 0 when it has none of that name."""
    if target is None:
        return port
    if isinstance(target, int):
        return target
    for candidate in workload.spec.ports:
        if candidate.name == target and candidate.protocol == protocol:
            return candidate.port
    return 0


def _of(objects: Iterable[Resource], kind: type[T]) -> list[T]:
    return [o for o in objects if isinstance(o, kind)]


def _name(resource: Resource) -> Name:
    return resource.metadata.namespace, resource.metadata.name
