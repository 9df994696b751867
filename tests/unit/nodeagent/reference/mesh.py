"""The objects of a mesh, and who is where."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from meshapi.resources import (
    AuthorizationPolicy,
    ClusterNetworkPolicy,
    Key,
    LabelSelector,
    MeshNode,
    Namespace,
    NetworkPolicy,
    Quarantine,
    Resource,
    Workload,
)
from meshapi.wire import MeshSettings

Protocol = Literal["TCP", "UDP", "OTHER"]
Direction = Literal["ingress", "egress"]
Policy = NetworkPolicy | ClusterNetworkPolicy | AuthorizationPolicy

NAMESPACE_NAME = "kubernetes.io/metadata.name"  # a label that every namespace has


@dataclass(frozen=True)
class World:
    """The objects of a mesh."""

    objects: dict[Key, Resource]
    mesh: MeshSettings = field(default_factory=MeshSettings)

    def every(self, kind: type[Any]) -> Iterator[Any]:
        return (o for o in self.objects.values() if isinstance(o, kind))

    def namespace_labels(self, name: str) -> dict[str, str]:
        found = (n for n in self.every(Namespace) if n.metadata.name == name)
        return {**next((n.metadata.labels for n in found), {}), NAMESPACE_NAME: name}

    def node_of(self, workload: Workload) -> MeshNode | None:
        named = workload.spec.node_name
        return next((n for n in self.every(MeshNode) if n.metadata.name == named), None)

    def addresses(self, workload: Workload) -> tuple[str, ...]:
        if workload.spec.network == "pod":
            return workload.spec.addresses
        node = self.node_of(workload)
        return node.spec.addresses if node else ()

    def quarantines_of(self, workload: Workload) -> list[Quarantine]:
        return [
            q
            for q in self.every(Quarantine)
            if (q.metadata.namespace, q.spec.workload) == name(workload)
        ]


class End(NamedTuple):
    """Who is at one end: a workload, an address of a node, or any other address.

    ``addresses`` are those that it may be known by in this connection (of one IP version).
    """

    addresses: tuple[str, ...]
    workload: Workload | None = None
    node: MeshNode | None = None


class Flow(NamedTuple):
    """A connection, or an exchange of packets; the port is the destination's."""

    source: End
    destination: End
    protocol: Protocol
    port: int


def name(resource: Resource) -> tuple[str, str]:
    return resource.metadata.namespace, resource.metadata.name


def full_name(resource: Resource) -> str:
    return "/".join(part for part in name(resource) if part)


def selects(selector: LabelSelector, labels: dict[str, str]) -> bool:
    """An empty selector is for everything; NotIn also for what has no such label."""
    return all(labels.get(key) == value for key, value in selector.match_labels.items()) and all(
        {
            "In": labels.get(asked.key) in asked.values,
            "NotIn": labels.get(asked.key) not in asked.values,
            "Exists": asked.key in labels,
            "DoesNotExist": asked.key not in labels,
        }[asked.operator]
        for asked in selector.match_expressions
    )


def inside(end: End, cidr: str, excepts: tuple[str, ...] = ()) -> bool:
    """Whether an end has an address in a block; bits behind the block's prefix do not count.

    A workload may use any of its addresses, so it is wherever one of them is.
    """
    block, *outside = (ipaddress.ip_network(text, strict=False) for text in (cidr, *excepts))
    return any(
        address in block and not any(address in hole for hole in outside)
        for address in map(ipaddress.ip_address, end.addresses)
    )


def version_of(address: str) -> int:
    return ipaddress.ip_address(address).version


def workload_end(world: World, workload: Workload, version: int) -> End:
    """A workload that speaks, or is spoken to in, an IP version; in the host's network it is at an
    address of its node.
    """
    found = tuple(a for a in world.addresses(workload) if version_of(a) == version)
    node = world.node_of(workload) if workload.spec.network == "host" else None
    return End(found, workload, node)


def ends_at(world: World, address: str, dialled: tuple[Protocol, int] | None = None) -> list[End]:
    """Who may be at an address: its pod; of a node's address, the workloads in the host's network
    (that which has the dialled port, if one has it), or the node itself if there is none.
    """
    for workload in world.every(Workload):
        if workload.spec.network == "pod" and address in workload.spec.addresses:
            return [workload_end(world, workload, version_of(address))]
    for node in world.every(MeshNode):
        if address in node.spec.addresses:
            return list(_on_node(world, node, address, dialled))
        if address in node.spec.proxy_addresses:
            return [End((address,), None, node)]
    return [End((address,))]


def _on_node(
    world: World, node: MeshNode, address: str, dialled: tuple[Protocol, int] | None
) -> Iterator[End]:
    host = [w for w in world.every(Workload) if w.spec.network == "host"]
    there = [w for w in host if w.spec.node_name == node.metadata.name]
    listening = [w for w in there if dialled in {(p.protocol, p.port) for p in w.spec.ports}]
    for workload in listening or there:
        yield workload_end(world, workload, version_of(address))
    if not there:
        yield End((address,), None, node)
