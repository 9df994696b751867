"""The parts that rows are made of. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hopctl.output import Cell
from hopctl.when import ago
from meshapi.resources import (
    Condition,
    HTTPRoute,
    LabelSelector,
    MeshNode,
    Resource,
    TrafficPolicy,
    Workload,
)


@dataclass(frozen=True)
class Context:
    """What a row needs besides its own object."""

    revision: int
    now: dt.datetime
    workloads: Sequence[Workload] = ()
    routes: Sequence[HTTPRoute] = ()
    quarantined: Collection[tuple[str, str]] = ()  # namespace and name of workloads
    nodes: Sequence[MeshNode] = ()
    policies: Sequence[TrafficPolicy] = ()


Row = Callable[[Any, Context], list[Cell]]


@dataclass(frozen=True)
class Columns:
    """A kind's columns: always shown, and with ``-o wide``."""

    header: tuple[str, ...]
    row: Row
    wide_header: tuple[str, ...] = ()
    wide_row: Row = field(default=lambda _resource, _context: [])


def text(words: str) -> Cell:
    """The words, or a dim dash for none."""
    return Cell(words) if words else Cell("-", "dim")


def age(resource: Resource, context: Context) -> Cell:
    return text(ago(resource.metadata.creation_timestamp, context.now))


def pairs(values: Mapping[str, str]) -> str:
    return ",".join(f"{k}={v}" for k, v in sorted(values.items()))


def selector(chosen: LabelSelector) -> str:
    parts = [pairs(chosen.match_labels)] if chosen.match_labels else []
    for expression in chosen.match_expressions:
        values = f" ({','.join(expression.values)})" if expression.values else ""
        parts.append(f"{expression.key} {expression.operator}{values}")
    return ",".join(parts) or "(all)"


def condition(conditions: Sequence[Condition], name: str) -> Cell:
    found = next((c for c in conditions if c.type == name), None)
    if found is None:
        return Cell("-", "dim")
    if found.status == "True":
        return Cell("True", "good")
    return Cell(f"{found.status} ({found.reason})", "bad" if found.status == "False" else "warn")


def messages(conditions: Sequence[Condition]) -> Cell:
    return text("; ".join(c.message for c in conditions if c.message))
