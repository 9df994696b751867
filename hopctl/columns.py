"""What a table shows of each kind. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hopctl.output import Cell, Tone
from hopctl.when import ago
from meshapi.resources import (
    Condition,
    HTTPRoute,
    Kind,
    LabelSelector,
    MeshNode,
    Namespace,
    NetworkPolicy,
    Resource,
    Service,
    Workload,
)
from meshapi.selectors import contains


@dataclass(frozen=True)
class Context:
    """What a row needs besides its own object."""

    revision: int
    now: dt.datetime
    workloads: Sequence[Workload] = ()
    routes: Sequence[HTTPRoute] = ()


Row = Callable[[Any, Context], list[Cell]]


@dataclass(frozen=True)
class Columns:
    """A kind's columns: always shown, and with ``-o wide``."""

    header: tuple[str, ...]
    row: Row
    wide_header: tuple[str, ...] = ()
    wide_row: Row = field(default=lambda _resource, _context: [])


def header(kind: Kind, *, wide: bool) -> list[str]:
    columns = _COLUMNS[kind.type]
    place = ["NAMESPACE"] if kind.namespaced else []
    return [*place, "NAME", *columns.header, *(columns.wide_header if wide else ())]


def row(kind: Kind, resource: Resource, context: Context, *, wide: bool) -> list[Cell]:
    columns = _COLUMNS[kind.type]
    place = [Cell(resource.metadata.namespace)] if kind.namespaced else []
    cells = [*place, Cell(resource.metadata.name), *columns.row(resource, context)]
    return [*cells, *columns.wide_row(resource, context)] if wide else cells


def _namespace(namespace: Namespace, context: Context) -> list[Cell]:
    return [_text(_pairs(namespace.metadata.labels)), _age(namespace, context)]


def _service(service: Service, context: Context) -> list[Cell]:
    spec, meta = service.spec, service.metadata
    backends = [
        w
        for w in context.workloads
        if spec.selector
        and w.metadata.namespace == meta.namespace
        and contains(w.metadata.labels, spec.selector)
    ]
    ready = sum(w.status.ready for w in backends)
    tone: Tone = "good" if backends and ready == len(backends) else ("warn" if ready else "bad")
    routes = [
        r.metadata.name
        for r in context.routes
        if r.metadata.namespace == meta.namespace
        and any(p.name == meta.name for p in r.spec.parent_refs)
    ]
    ports = ",".join(f"{p.port}/{p.protocol}" for p in spec.ports)
    return [
        _text(",".join(spec.cluster_ips)),
        Cell(ports),
        Cell(f"{ready}/{len(backends)}", tone),
        _text(",".join(routes)),
    ]


def _service_wide(service: Service, context: Context) -> list[Cell]:
    return [_text(_pairs(service.spec.selector)), _age(service, context)]


def _node(node: MeshNode, context: Context) -> list[Cell]:
    status = node.status
    lag = context.revision - status.applied_revision
    revision = str(status.applied_revision) + (f" ({lag} behind)" if lag > 0 else "")
    agent, l7proxy = status.agent, status.l7proxy
    return [
        Cell("True", "good") if status.ready else Cell("False", "bad"),
        Cell(revision, "warn" if lag > 0 else ""),
        _text(",".join(node.spec.addresses)),
        _text(agent.version if agent else ""),
        _text((l7proxy.state or l7proxy.version) if l7proxy else ""),
        _text(status.kernel_version),
    ]


def _node_wide(node: MeshNode, context: Context) -> list[Cell]:
    parts = [p for p in (node.status.agent, node.status.l7proxy) if p]
    why = "; ".join(c.message for c in node.status.conditions if c.message)
    problems = [f"{p.kind} {p.namespace}/{p.name}: {p.message}" for c in parts for p in c.problems]
    return [
        _text(_pairs(node.status.features)),
        _text("; ".join([why, *problems] if why else problems)),
        _age(node, context),
    ]


def _workload(workload: Workload, _context: Context) -> list[Cell]:
    spec, status = workload.spec, workload.status
    return [
        Cell(spec.node_name),
        Cell(spec.network),
        _text(",".join(spec.addresses)),
        Cell(str(status.identity)),
        Cell("True", "good") if status.ready else Cell("False", "bad"),
    ]


def _workload_wide(workload: Workload, context: Context) -> list[Cell]:
    return [
        _text(workload.status.spiffe_id),
        Cell(workload.spec.cgroup),
        _text(_pairs(workload.metadata.labels)),
        _text(workload.status.message),
        _age(workload, context),
    ]


def _httproute(route: HTTPRoute, _context: Context) -> list[Cell]:
    parents = [f"{p.name}:{p.port}" if p.port else p.name for p in route.spec.parent_refs]
    rules = " | ".join(
        ",".join(f"{b.name}:{b.port}={b.weight}" for b in rule.backend_refs) or "-"
        for rule in route.spec.rules
    )
    return [
        Cell(",".join(parents)),
        Cell(rules),
        *(_worst(route, name) for name in ("Accepted", "ResolvedRefs", "Programmed")),
    ]


def _httproute_wide(route: HTTPRoute, context: Context) -> list[Cell]:
    messages = {c.message for c in _route_conditions(route) if c.status != "True" and c.message}
    return [_text("; ".join(sorted(messages))), _age(route, context)]


def _networkpolicy(policy: NetworkPolicy, _context: Context) -> list[Cell]:
    spec = policy.spec
    return [
        Cell(_selector(spec.pod_selector)),
        _text(",".join(spec.policy_types)),
        Cell(f"{len(spec.ingress)} in, {len(spec.egress)} out"),
        _condition(policy.status.conditions, "Programmed"),
    ]


def _networkpolicy_wide(policy: NetworkPolicy, context: Context) -> list[Cell]:
    messages = [c.message for c in policy.status.conditions if c.message]
    return [_text("; ".join(messages)), _age(policy, context)]


def _route_conditions(route: HTTPRoute) -> list[Condition]:
    return [c for parent in route.status.parents for c in parent.conditions]


def _worst(route: HTTPRoute, name: str) -> Cell:
    """A condition that holds only if it holds for every parent."""
    found = [c for c in _route_conditions(route) if c.type == name]
    bad = [c for c in found if c.status != "True"]
    return _condition(bad or found, name)


def _condition(conditions: Sequence[Condition], name: str) -> Cell:
    found = next((c for c in conditions if c.type == name), None)
    if found is None:
        return Cell("-", "dim")
    if found.status == "True":
        return Cell("True", "good")
    return Cell(f"{found.status} ({found.reason})", "bad" if found.status == "False" else "warn")


def _selector(selector: LabelSelector) -> str:
    parts = [_pairs(selector.match_labels)] if selector.match_labels else []
    for expression in selector.match_expressions:
        values = f" ({','.join(expression.values)})" if expression.values else ""
        parts.append(f"{expression.key} {expression.operator}{values}")
    return ",".join(parts) or "(all)"


def _pairs(values: dict[str, str]) -> str:
    return ",".join(f"{k}={v}" for k, v in sorted(values.items()))


def _age(resource: Resource, context: Context) -> Cell:
    return _text(ago(resource.metadata.creation_timestamp, context.now))


def _text(text: str) -> Cell:
    return Cell(text) if text else Cell("-", "dim")


_COLUMNS: dict[type[Resource], Columns] = {
    Namespace: Columns(("LABELS", "AGE"), _namespace),
    Service: Columns(
        ("CLUSTER-IPS", "PORTS", "BACKENDS", "L7"), _service, ("SELECTOR", "AGE"), _service_wide
    ),
    MeshNode: Columns(
        ("READY", "REVISION", "ADDRESSES", "AGENT", "PROXY", "KERNEL"),
        _node,
        ("FEATURES", "PROBLEMS", "AGE"),
        _node_wide,
    ),
    Workload: Columns(
        ("NODE", "NETWORK", "ADDRESSES", "IDENTITY", "READY"),
        _workload,
        ("SPIFFE-ID", "CGROUP", "LABELS", "MESSAGE", "AGE"),
        _workload_wide,
    ),
    HTTPRoute: Columns(
        ("PARENTS", "RULES", "ACCEPTED", "RESOLVEDREFS", "PROGRAMMED"),
        _httproute,
        ("MESSAGE", "AGE"),
        _httproute_wide,
    ),
    NetworkPolicy: Columns(
        ("SELECTOR", "TYPES", "RULES", "PROGRAMMED"),
        _networkpolicy,
        ("MESSAGE", "AGE"),
        _networkpolicy_wide,
    ),
}
