"""What a node says of its own workloads, and what of that is stored. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from controller.admission import Write
from controller.pace import Pace
from controller.state import State
from meshapi.resources import Workload, key_of
from meshapi.wire import WorkloadReport

# A port whose health flaps must not make the whole mesh follow it: this many changes at once, then
# one in so many seconds. What is held back comes with the node's next report.
HEALTH_BURST = 4
HEALTH_EVERY = 5.0


def steadied(
    state: State, node: str, reports: Iterable[WorkloadReport], pace: Pace, now: float
) -> tuple[WorkloadReport, ...]:
    """A node's reports on its own workloads, others' are not its business.

    Where health has changed too often of late it is as it is stored.
    """
    return tuple(_steadied(state, node, reports, pace, now))


def changes(state: State, node: str, reports: Iterable[WorkloadReport]) -> Iterator[Write]:
    """What a node's reports on its own workloads change."""
    for report, old in _own(state, node, reports):
        status = replace(
            old.status, ready=report.ready, message=report.message, unhealthy_ports=_ports(report)
        )
        if status != old.status:
            yield Write(key_of(old), old, replace(old, status=status))


def _steadied(
    state: State, node: str, reports: Iterable[WorkloadReport], pace: Pace, now: float
) -> Iterator[WorkloadReport]:
    for report, old in _own(state, node, reports):
        stored = old.status.unhealthy_ports
        if _ports(report) == stored or pace.allows(key_of(old), now):
            yield report
        else:
            yield replace(report, unhealthy_ports=stored)


def _own(
    state: State, node: str, reports: Iterable[WorkloadReport]
) -> Iterator[tuple[WorkloadReport, Workload]]:
    """Those whose workload runs on the node; it may be deleted or moved since the node looked."""
    for report in reports:
        workload = state.workload(report.namespace, report.name)
        if workload is not None and workload.spec.node_name == node:
            yield report, workload


def _ports(report: WorkloadReport) -> tuple[int, ...]:
    return tuple(sorted(set(report.unhealthy_ports)))
