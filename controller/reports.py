"""What the nodes last reported, in memory: heartbeats never go through the store. Pure.

After a restart every node counts as not ready until it reports again (within REPORT_INTERVAL).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from meshapi.nodecontract import NODE_STALE_AFTER
from meshapi.resources import ComponentStatus, Condition, MeshNodeStatus
from meshapi.wire import NodeReport

_NEVER = MeshNodeStatus(
    conditions=(
        Condition(
            type="Ready",
            status="False",
            reason="NotReported",
            message="no component of this node has reported since the controller started",
        ),
    )
)


@dataclass(frozen=True)
class Received:
    """A report and when it came: seconds of a steady clock, and the time of day (RFC 3339).

    Ages are reckoned by the steady one, so that a stepped clock makes no node stale.
    """

    report: NodeReport
    at: float
    seen: str


class Reports:
    """The newest report of every component of every node."""

    def __init__(self) -> None:
        self._received: dict[str, dict[str, Received]] = {}

    def put(self, node: str, report: NodeReport, now: float, seen: str) -> bool:
        """Take a report; tell whether it says anything new."""
        components = self._received.setdefault(node, {})
        before = components.get(report.component)
        components[report.component] = Received(report, now, seen)
        return before is None or before.report != report or _stale(before, now)

    def forget(self, node: str) -> None:
        """Drop what is known of a node that has left the mesh."""
        self._received.pop(node, None)

    def status(self, node: str, now: float) -> MeshNodeStatus:
        received = self._received.get(node)
        return node_status(received, now) if received else _NEVER

    def statuses(self, nodes: Iterable[str], now: float) -> dict[str, MeshNodeStatus]:
        return {node: self.status(node, now) for node in nodes}


def node_status(received: Mapping[str, Received], now: float) -> MeshNodeStatus:
    """A node's status: ready if all that ever reported are heard of and ready.

    ``applied_revision`` is the smallest that a component has in force.
    """
    agent, l7proxy = received.get("agent"), received.get("l7proxy")
    ready = _readiness(received, now)
    return MeshNodeStatus(
        ready=ready.status == "True",
        applied_revision=min(r.report.revision for r in received.values()),
        kernel_version=agent.report.kernel_version if agent else "",
        features=agent.report.features if agent else {},
        agent=_component(agent, now),
        l7proxy=_component(l7proxy, now),
        ejections=agent.report.ejections if agent else (),
        conditions=(ready,),
    )


def heard_of(status: MeshNodeStatus) -> bool:
    """Whether all of a node's components have reported lately, ready or not."""
    return all(c.reason not in ("NotReported", "Stale") for c in status.conditions)


def visible(status: MeshNodeStatus) -> MeshNodeStatus:
    """The part of a status whose change is news: everything but when a component was heard of."""
    return replace(
        status,
        agent=status.agent and replace(status.agent, last_seen=""),
        l7proxy=status.l7proxy and replace(status.l7proxy, last_seen=""),
    )


def _readiness(received: Mapping[str, Received], now: float) -> Condition:
    if "agent" not in received:
        return _condition("NotReported", "the agent has not reported")
    for name, got in sorted(received.items()):
        if _stale(got, now):
            return _condition("Stale", f"{name} was last heard of {now - got.at:.0f} s ago")
        if not got.report.ready:
            state = got.report.state or "no reason given"
            return _condition("NotReady", f"{name} is not ready: {state}")
    return Condition(type="Ready", status="True", reason="Reported")


def _condition(reason: str, message: str) -> Condition:
    return Condition(type="Ready", status="False", reason=reason, message=message)


def _component(got: Received | None, now: float) -> ComponentStatus | None:
    if got is None:
        return None
    return ComponentStatus(
        ready=got.report.ready and not _stale(got, now),
        revision=got.report.revision,
        version=got.report.version,
        state=got.report.state,
        last_seen=got.seen,
        problems=got.report.problems,
        cut=got.report.cut,
    )


def _stale(got: Received, now: float) -> bool:
    return now - got.at > NODE_STALE_AFTER
