"""mesh.hoplite.io/v1alpha1: the kinds that Kubernetes and the Gateway API lack."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from meshapi.resources.core import Port, Protocol
from meshapi.resources.meta import Condition, ObjectMeta, Part, SparsePart

GROUP = "mesh.hoplite.io"
ZONE_LABEL = "topology.kubernetes.io/zone"  # of a MeshNode

WorkloadWeight = Annotated[int, msgspec.Meta(ge=0, le=65_535)]


class WorkloadPort(Part, frozen=True):
    """A port that the workload listens on; policies and services may refer to it by name."""

    port: Port
    name: str | None = None
    protocol: Protocol = "TCP"


class WorkloadSpec(SparsePart, frozen=True):
    """Where a workload runs and how its node recognises it.

    ``cgroup`` is a path below the node's cgroup root; every socket of a process in it, or in a
    child of it, is the workload's. ``network: pod`` has addresses of its own; ``network: host``
    shares the node's, so that only the cgroup tells it apart on its node. ``weight`` is its share
    of the new connections to its services; with 0 it gets none.
    """

    node_name: str
    cgroup: str
    service_account: str = "default"
    network: Literal["pod", "host"] = "pod"
    addresses: tuple[str, ...] = ()
    ports: tuple[WorkloadPort, ...] = ()
    weight: WorkloadWeight = 1


class WorkloadStatus(SparsePart, frozen=True):
    """``identity`` is the mesh-wide number of ``spiffe_id``; the rest is its node's word.

    ``unhealthy_ports`` are those whose health check fails, in ascending order.
    """

    identity: int = 0
    spiffe_id: str = msgspec.field(default="", name="spiffeID")
    ready: bool = False
    message: str = ""
    unhealthy_ports: tuple[Port, ...] = ()


class Workload(SparsePart, frozen=True):
    """One running instance: a container, a process or a service unit on a node."""

    api_version: Literal["mesh.hoplite.io/v1alpha1"]
    kind: Literal["Workload"]
    metadata: ObjectMeta
    spec: WorkloadSpec
    status: WorkloadStatus = WorkloadStatus()


class MeshNodeSpec(SparsePart, frozen=True):
    """A node's addresses. ``proxy_addresses`` are the source addresses of its node proxy."""

    addresses: tuple[str, ...] = ()
    proxy_addresses: tuple[str, ...] = ()


class NodeProblem(SparsePart, frozen=True):
    """A resource that this node could not put into force, and why."""

    kind: str
    name: str
    namespace: str = ""
    reason: str = ""
    message: str = ""


class Ejection(SparsePart, frozen=True):
    """A backend that a node leaves out for a while because connections to it failed.

    ``identity`` is the one caller that it is left out for, 0 is everybody. ``until`` is a time
    (RFC 3339); then one connection is let through to it.
    """

    namespace: str
    service: str
    port: Port
    workload: str
    address: str
    until: str
    identity: int = 0


class PolicyCut(SparsePart, frozen=True):
    """How many open connections an agent has ended for a policy since it started.

    ``uid`` tells the policy from an earlier one of the same name.
    """

    kind: str
    name: str
    connections: int
    namespace: str = ""
    uid: str = ""


class ComponentStatus(SparsePart, frozen=True):
    """What one process of a node last reported. ``revision`` is in force and was read back."""

    ready: bool = False
    revision: int = 0
    version: str = ""
    state: str = ""
    last_seen: str = ""
    problems: tuple[NodeProblem, ...] = ()
    cut: tuple[PolicyCut, ...] = ()


class MeshNodeStatus(SparsePart, frozen=True):
    ready: bool = False
    applied_revision: int = 0
    kernel_version: str = ""
    features: dict[str, str] = {}
    agent: ComponentStatus | None = None
    l7proxy: ComponentStatus | None = None
    ejections: tuple[Ejection, ...] = ()
    conditions: tuple[Condition, ...] = ()


class MeshNode(SparsePart, frozen=True):
    """A machine (or a network namespace of the lab) whose agent belongs to this mesh.

    Its labels say where it stands: policies select nodes by them, and ZONE_LABEL is its zone.
    """

    api_version: Literal["mesh.hoplite.io/v1alpha1"]
    kind: Literal["MeshNode"]
    metadata: ObjectMeta
    spec: MeshNodeSpec = MeshNodeSpec()
    status: MeshNodeStatus = MeshNodeStatus()
