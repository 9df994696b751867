"""Columns of where things run: MeshNode and Workload. Pure."""

from __future__ import annotations

from hopctl.columns.cells import Columns, Context, age, pairs, text
from hopctl.output import Cell
from meshapi.resources import MeshNode, Workload
from meshapi.resources.mesh import ZONE_LABEL


def _node(node: MeshNode, context: Context) -> list[Cell]:
    status = node.status
    lag = context.revision - status.applied_revision
    revision = str(status.applied_revision) + (f" ({lag} behind)" if lag > 0 else "")
    agent, l7proxy = status.agent, status.l7proxy
    return [
        Cell("True", "good") if status.ready else Cell("False", "bad"),
        Cell(revision, "warn" if lag > 0 else ""),
        text(",".join(node.spec.addresses)),
        text(agent.version if agent else ""),
        text((l7proxy.state or l7proxy.version) if l7proxy else ""),
        text(status.kernel_version),
    ]


def _node_wide(node: MeshNode, context: Context) -> list[Cell]:
    parts = [p for p in (node.status.agent, node.status.l7proxy) if p]
    why = "; ".join(c.message for c in node.status.conditions if c.message)
    problems = [f"{p.kind} {p.namespace}/{p.name}: {p.message}" for c in parts for p in c.problems]
    return [
        text(node.metadata.labels.get(ZONE_LABEL, "")),
        _missing(node.status.features),
        _cut_off(node, context),
        text("; ".join([why, *problems] if why else problems)),
        age(node, context),
    ]


def _missing(features: dict[str, str]) -> Cell:
    """The features that the node's kernel lacks, by name; what that means is in ``-o yaml``."""
    missing = sorted(name for name, said in features.items() if said != "yes")
    if missing:
        return Cell(f"missing: {', '.join(missing)}", "warn")
    return Cell("all", "good") if features else Cell("-", "dim")


def _cut_off(node: MeshNode, context: Context) -> Cell:
    """The node's workloads that are quarantined."""
    found = sorted(
        f"{w.metadata.namespace}/{w.metadata.name}"
        for w in context.workloads
        if w.spec.node_name == node.metadata.name
        and (w.metadata.namespace, w.metadata.name) in context.quarantined
    )
    return Cell(",".join(found), "bad") if found else text("")


def _workload(workload: Workload, context: Context) -> list[Cell]:
    spec, status = workload.spec, workload.status
    return [
        Cell(spec.node_name),
        Cell(spec.network),
        text(",".join(spec.addresses)),
        Cell(str(status.identity)),
        _state(workload, context),
    ]


def _state(workload: Workload, context: Context) -> Cell:
    """READY, and what keeps connections away from a workload that is."""
    meta, status = workload.metadata, workload.status
    notes = []
    if status.unhealthy_ports:
        notes.append(f"unhealthy: {','.join(map(str, status.unhealthy_ports))}")
    if workload.spec.weight != 1:
        notes.append(f"weight {workload.spec.weight}")
    if (meta.namespace, meta.name) in context.quarantined:
        return Cell(", ".join([f"{status.ready} QUARANTINED", *notes]), "bad")
    words = f"{status.ready} ({', '.join(notes)})" if notes else str(status.ready)
    hindered = status.unhealthy_ports or workload.spec.weight == 0
    return Cell(words, "bad" if not status.ready else "warn" if hindered else "good")


def _workload_wide(workload: Workload, context: Context) -> list[Cell]:
    return [
        text(workload.status.spiffe_id),
        Cell(workload.spec.cgroup),
        text(pairs(workload.metadata.labels)),
        text(workload.status.message),
        age(workload, context),
    ]


MESHNODE = Columns(
    ("READY", "REVISION", "ADDRESSES", "AGENT", "PROXY", "KERNEL"),
    _node,
    ("ZONE", "FEATURES", "QUARANTINED", "PROBLEMS", "AGE"),
    _node_wide,
)
WORKLOAD = Columns(
    ("NODE", "NETWORK", "ADDRESSES", "IDENTITY", "READY"),
    _workload,
    ("SPIFFE-ID", "CGROUP", "LABELS", "MESSAGE", "AGE"),
    _workload_wide,
)
