"""What this l7proxy says about itself: to the controller, at its admin socket, in metrics. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from meshapi import __version__
from meshapi.resources import NodeProblem
from meshapi.wire import NodeReport, ServicePortRef


@dataclass(frozen=True)
class Status:
    """``revision`` is the newest that Envoy has acknowledged in full; ``state`` is for people."""

    revision: int = 0
    ready: bool = False
    state: str = "waiting for the controller"
    problems: tuple[NodeProblem, ...] = ()


def report(status: Status) -> NodeReport:
    return NodeReport(
        component="l7proxy",
        revision=status.revision,
        version=__version__,
        ready=status.ready,
        state=status.state,
        problems=status.problems,
    )


def serving(ports: Collection[ServicePortRef]) -> str:
    """``serving 3 services``"""
    services = {(ref.namespace, ref.name) for ref in ports}
    return f"serving {len(services)} service{'' if len(services) == 1 else 's'}"
