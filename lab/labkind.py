"""The Lab kind: what a lab consists of, as it is written in a file."""

from __future__ import annotations

from typing import Literal

from meshapi.resources.mesh import WorkloadPort, WorkloadWeight
from meshapi.resources.meta import SparsePart

API_VERSION = "lab.hoplite.io/v1alpha1"
WORKLOAD_LABEL = "lab.hoplite.io/workload"  # which workload of the file a Workload is made from
MAX_NODES = 200
MAX_PODS = 240  # of one node; 10.244.<node>.254 is its proxy's


class LabMeta(SparsePart, frozen=True):
    """For the reader; the lab's own name is ``--name``."""

    name: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class LabWorkload(SparsePart, frozen=True):
    """One workload. Without ``command`` it only exists, and ``exec`` runs things in it."""

    name: str
    namespace: str = "default"
    service_account: str = "default"
    labels: dict[str, str] = {}
    network: Literal["pod", "host"] = "pod"
    ports: tuple[WorkloadPort, ...] = ()
    weight: WorkloadWeight = 1
    command: tuple[str, ...] = ()
    env: dict[str, str] = {}


class LabNode(SparsePart, frozen=True):
    """One node; ``labels`` are its MeshNode's, e.g. ``topology.kubernetes.io/zone``."""

    name: str
    labels: dict[str, str] = {}
    workloads: tuple[LabWorkload, ...] = ()


class LabDns(SparsePart, frozen=True):
    """Who is asked about names that are not the mesh's: nobody, unless addresses are given."""

    upstreams: tuple[str, ...] = ()


class LabSpec(SparsePart, frozen=True):
    nodes: tuple[LabNode, ...]
    dns: LabDns = LabDns()


class Lab(SparsePart, frozen=True):
    """A mesh on one machine: its nodes and what runs on them."""

    api_version: Literal["lab.hoplite.io/v1alpha1"]
    kind: Literal["Lab"]
    spec: LabSpec
    metadata: LabMeta = LabMeta()
