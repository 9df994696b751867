"""From a checked file to everything a lab is made of: addresses, names, resources. Pure.

Nodes count from 1: node ``i`` has 172.30.0.(10+i) and fd00:30::(10+i) on the fabric, and its pods
10.244.<i>.(10+j) and fd00:244:<i>::<10+j>. Labs are isolated, so all use the same addresses.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from lab.labfile import LabFile, resource_names
from lab.labkind import WORKLOAD_LABEL, LabNode, LabWorkload
from lab.names import LabNames
from meshapi.resources import (
    Key,
    Namespace,
    ObjectMeta,
    Resource,
    Workload,
    WorkloadSpec,
    key_of,
)
from meshapi.resources.mesh import WorkloadPort

FABRIC4 = "172.30.0.1"
FABRIC6 = "fd00:30::1"
AGENT_CGROUP = "hoplite-agent"
PROXY_CGROUP = "hoplite-l7proxy"
SYSTEM_CGROUP = "system"  # a node's own processes, which belong to no workload

_FIRST_HOST = 10  # below it: the fabric's own address and room for more


class PlannedWorkload(msgspec.Struct, frozen=True, kw_only=True):
    """One workload: where it runs, as whom and what. ``cgroup`` is below its node's."""

    node: str
    namespace: str
    name: str
    resource: str
    network: Literal["pod", "host"]
    netns: str
    cgroup: str
    service_account: str
    labels: dict[str, str]
    ports: tuple[WorkloadPort, ...] = ()
    weight: int = 1
    command: tuple[str, ...] = ()
    env: dict[str, str] = {}
    address4: str = ""
    address6: str = ""

    @property
    def target(self) -> str:
        """What ``exec`` calls it: ``NODE/NAMESPACE/WORKLOAD``."""
        return f"{self.node}/{self.namespace}/{self.name}"

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self.address4, self.address6) if self.network == "pod" else ()


class PlannedNode(msgspec.Struct, frozen=True, kw_only=True):
    """One node: its namespace, its addresses on the fabric and those of its node proxy."""

    name: str
    netns: str
    address4: str
    address6: str
    pods4: str
    pods6: str
    proxy4: str
    proxy6: str
    workloads: tuple[PlannedWorkload, ...]
    labels: dict[str, str] = {}

    @property
    def pods(self) -> tuple[PlannedWorkload, ...]:
        return tuple(w for w in self.workloads if w.network == "pod")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A whole lab, as it is kept in ``lab.json``."""

    lab: str
    fabric: str
    nodes: tuple[PlannedNode, ...]
    dns_upstreams: tuple[str, ...] = ()

    @property
    def workloads(self) -> tuple[PlannedWorkload, ...]:
        return tuple(w for node in self.nodes for w in node.workloads)


def make(file: LabFile, lab: str) -> Plan:
    """The plan of a lab named ``lab``."""
    names = LabNames(lab)
    called = resource_names(file.nodes)
    nodes = tuple(_node(names, i, node, called) for i, node in enumerate(file.nodes, start=1))
    return Plan(
        lab=lab,
        fabric=names.netns("fabric"),
        nodes=nodes,
        dns_upstreams=file.dns_upstreams,
    )


def resources(plan: Plan, file: LabFile) -> list[Resource]:
    """The Workloads of a lab and the Namespaces they need, those of the file as they stand."""
    wanted = {w.namespace: None for w in plan.workloads}
    written = {key_of(m.resource): m.resource for m in file.manifests}
    namespaces = [written.get(Key("Namespace", "", name)) or _namespace(name) for name in wanted]
    return [*namespaces, *(workload_resource(w) for w in plan.workloads)]


def workload_resource(workload: PlannedWorkload) -> Workload:
    return Workload(
        api_version="mesh.hoplite.io/v1alpha1",
        kind="Workload",
        metadata=ObjectMeta(
            name=workload.resource, namespace=workload.namespace, labels=workload.labels
        ),
        spec=WorkloadSpec(
            node_name=workload.node,
            cgroup=workload.cgroup,
            service_account=workload.service_account,
            network=workload.network,
            addresses=workload.addresses,
            ports=workload.ports,
            weight=workload.weight,
        ),
    )


def _namespace(name: str) -> Namespace:
    return Namespace(api_version="v1", kind="Namespace", metadata=ObjectMeta(name=name))


def _node(
    names: LabNames, i: int, node: LabNode, called: dict[tuple[int, int], str]
) -> PlannedNode:
    workloads: list[PlannedWorkload] = []
    pods = 0
    for j, workload in enumerate(node.workloads):
        pods += workload.network == "pod"
        workloads.append(_workload(names, node.name, workload, called[i - 1, j], (i, pods)))
    return PlannedNode(
        name=node.name,
        netns=names.netns(node.name),
        address4=f"172.30.0.{_FIRST_HOST + i}",
        address6=f"fd00:30::{_FIRST_HOST + i}",
        pods4=f"10.244.{i}.0/24",
        pods6=f"fd00:244:{i}::/64",
        proxy4=f"10.244.{i}.254",
        proxy6=f"fd00:244:{i}::fffe",
        workloads=tuple(workloads),
        labels=node.labels,
    )


def _workload(
    names: LabNames, node: str, workload: LabWorkload, resource: str, position: tuple[int, int]
) -> PlannedWorkload:
    i, pod = position
    in_pod = workload.network == "pod"
    kind = "pods" if in_pod else "host"
    return PlannedWorkload(
        node=node,
        namespace=workload.namespace,
        name=workload.name,
        resource=resource,
        network=workload.network,
        netns=names.netns(node, workload.namespace, workload.name) if in_pod else names.netns(node),
        cgroup=f"{kind}/{workload.namespace}_{workload.name}",
        service_account=workload.service_account,
        labels={**workload.labels, WORKLOAD_LABEL: workload.name},
        ports=workload.ports,
        weight=workload.weight,
        command=workload.command,
        env=workload.env,
        address4=f"10.244.{i}.{_FIRST_HOST + pod}" if in_pod else "",
        address6=f"fd00:244:{i}::{_FIRST_HOST + pod}" if in_pod else "",
    )
