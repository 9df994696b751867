"""``hoplite-lab status``: what runs where, from the cgroups, and what the controller says of it."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from lab import cgroups
from lab.api import Lab
from lab.plan import AGENT_CGROUP, PROXY_CGROUP, PlannedNode, PlannedWorkload
from meshapi.errors import HopliteError
from meshapi.resources import MeshNode, Workload, by_word


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A node: its address, the processes of its daemons, and the revision in force."""

    name: str
    address: str
    agent_pids: list[int]
    l7proxy_pids: list[int]
    ready: bool | None
    revision: int | None


class WorkloadStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A workload: where ``exec`` finds it, its addresses and its processes."""

    target: str
    resource: str
    network: str
    addresses: tuple[str, ...]
    pids: list[int]
    ready: bool | None


class LabStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``ready`` and ``revision`` are null where the controller, whose word they are, is silent."""

    name: str
    server: str
    controller_pids: list[int]
    problem: str
    nodes: list[NodeStatus]
    workloads: list[WorkloadStatus]


def collect(lab: Lab) -> LabStatus:
    plan = lab.record.plan
    problem = ""
    nodes: dict[str, MeshNode] = {}
    workloads: dict[tuple[str, str], Workload] = {}
    try:
        nodes, workloads = asyncio.run(_ask(lab))
    except (HopliteError, OSError) as error:
        problem = str(error)
    return LabStatus(
        name=lab.name,
        server=lab.record.server,
        controller_pids=cgroups.pids(lab.cgroup("controller")),
        problem=problem,
        nodes=[_node(lab, node, nodes.get(node.name)) for node in plan.nodes],
        workloads=[
            _workload(lab, workload, workloads.get((workload.namespace, workload.resource)))
            for workload in plan.workloads
        ],
    )


async def _ask(lab: Lab) -> tuple[dict[str, MeshNode], dict[tuple[str, str], Workload]]:
    async with lab.endpoint.client() as client:
        nodes: Any = await client.list_all(by_word("meshnodes"))
        workloads: Any = await client.list_all(by_word("workloads"))
    return (
        {n.metadata.name: n for n in nodes},
        {(w.metadata.namespace, w.metadata.name): w for w in workloads},
    )


def _node(lab: Lab, node: PlannedNode, known: MeshNode | None) -> NodeStatus:
    return NodeStatus(
        name=node.name,
        address=node.address4,
        agent_pids=cgroups.pids(lab.cgroup(node.name, AGENT_CGROUP)),
        l7proxy_pids=cgroups.pids(lab.cgroup(node.name, PROXY_CGROUP)),
        ready=known.status.ready if known else None,
        revision=known.status.applied_revision if known else None,
    )


def _workload(lab: Lab, workload: PlannedWorkload, known: Workload | None) -> WorkloadStatus:
    return WorkloadStatus(
        target=workload.target,
        resource=workload.resource,
        network=workload.network,
        addresses=workload.addresses,
        pids=cgroups.pids(lab.cgroup(workload.node, workload.cgroup)),
        ready=known.status.ready if known else None,
    )


def show(status: LabStatus) -> None:
    """Two tables for people."""
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=True)
    controller = "running" if status.controller_pids else "[red]not running[/]"
    console.print(f"lab [bold]{status.name}[/]: controller {controller} at {status.server}")
    if status.problem:
        console.print(status.problem, style="red", markup=False)
    nodes = Table("NODE", "ADDRESS", "AGENT", "L7PROXY", "READY", "REVISION", box=None)
    for node in status.nodes:
        nodes.add_row(
            node.name,
            node.address,
            _running(node.agent_pids),
            _running(node.l7proxy_pids),
            _word(node.ready),
            "-" if node.revision is None else str(node.revision),
        )
    workloads = Table("WORKLOAD", "NETWORK", "ADDRESSES", "PROCESSES", "READY", box=None)
    for workload in status.workloads:
        workloads.add_row(
            workload.target,
            workload.network,
            " ".join(workload.addresses) or "-",
            str(len(workload.pids)),
            _word(workload.ready),
        )
    console.print(nodes)
    console.print(workloads)


def _running(pids: list[int]) -> str:
    return "running" if pids else "[red]not running[/]"


def _word(value: bool | None) -> str:
    return {True: "yes", False: "[red]no[/]", None: "-"}[value]
