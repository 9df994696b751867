"""The agent's one loop: whatever changed, make the kernel equal to desired state, then say so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from meshapi import nodecontract
from meshapi.errors import HopliteError
from meshapi.resources import NodeProblem
from meshapi.watch import Snapshot
from meshapi.wire import WorkloadReport
from nodeagent.cgroups import CgroupFinder
from nodeagent.datapath.sync import Writer
from nodeagent.desired.build import Desired, Facts
from nodeagent.desired.services import PortName
from nodeagent.desired.transition import Held, change, settle
from nodeagent.feedstore import FeedStore
from nodeagent.state import NodeState
from nodeagent.state import build as build_state
from nodeagent.telemetry.collect import Collector
from nodeagent.telemetry.metrics import Gauges
from nodeagent.telemetry.names import build as build_names

_log = logging.getLogger(__name__)

_TICK_SECONDS = 1.0  # also how long what a change replaced stays, for packets half-way through


@dataclass(frozen=True)
class InForce:
    """What the kernel enforces now, as read back."""

    revision: int = 0
    problems: tuple[NodeProblem, ...] = ()
    workloads: tuple[WorkloadReport, ...] = ()


class Reconciler:
    """Holds the newest wish and the newest facts; ``run`` is the only caller of the writer."""

    def __init__(  # noqa: PLR0917 - every part that a change passes through
        self,
        node: str,
        writer: Writer,
        finder: CgroupFinder,
        store: FeedStore,
        collector: Collector,
        gauges: Gauges,
        *,
        on_change: Callable[[], None],
        host_netns: int,
    ) -> None:
        self._node = node
        self._writer = writer
        self._finder = finder
        self._store = store
        self._collector = collector
        self._gauges = gauges
        self._on_change = on_change
        self._facts = Facts(
            host_netns=host_netns,
            proxy4=nodecontract.PROXY_ADDRESS4,
            proxy6=nodecontract.PROXY_ADDRESS6,
            proxy_port=nodecontract.PROXY_OUTBOUND_PORT,
        )
        self._wake = asyncio.Event()
        self._snapshot: Snapshot | None = None
        self._stored: int | None = None
        self.state = NodeState(node)
        self.held: Held | None = None
        self.in_force = InForce()

    # -- what changes -----------------------------------------------------------------------------

    def restore(self) -> bool:
        """Enforce the stored state, before anything else is heard; False when there is none."""
        snapshot = self._store.load()
        if snapshot is None:
            return False
        self._stored = snapshot.revision
        self._take(snapshot)
        self._apply()
        return True

    def wish(self, snapshot: Snapshot) -> None:
        """A newer revision came."""
        self._snapshot = snapshot
        self._gauges.revision = snapshot.revision
        self._wake.set()

    def redirect(self, services: frozenset[PortName]) -> None:
        """The node proxy is ready for exactly these service ports; in force when this returns."""
        if services != self._facts.redirected:
            self._facts = replace(self._facts, redirected=services)
            self._apply()

    # -- the loop ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Apply what comes; every tick look for cgroups and drop what the last change replaced."""
        while True:
            try:
                async with asyncio.timeout(_TICK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                self._tick()
                continue
            self._wake.clear()
            snapshot, self._snapshot = self._snapshot, None
            if snapshot is not None:
                self._take(snapshot)
                self._apply(snapshot)

    def _tick(self) -> None:
        found = self._finder.find(self.state.local)
        if found != self._facts.cgroups:  # appeared, vanished, or made anew
            self._facts = replace(self._facts, cgroups=found)
            self._apply()
        elif self.held is not None:
            settled = settle(self.held)
            if settled is not None:
                self._write([settled])

    def _take(self, snapshot: Snapshot) -> None:
        self.state = build_state(self._node, snapshot)
        self._facts = replace(self._facts, cgroups=self._finder.find(self.state.local))

    def _apply(self, snapshot: Snapshot | None = None) -> None:
        """Kernel first, then the disk, and only then the word that it is in force."""
        try:
            self._write(change(self.held, self.state, self._facts))
            if snapshot is not None and snapshot.revision != self._stored:
                self._store.save(snapshot)
                self._stored = snapshot.revision
        except (HopliteError, OSError) as error:
            _log.error("revision not in force", extra={"error": str(error)})
            problem = NodeProblem(
                kind="MeshNode", name=self._node, reason="NotInForce", message=str(error)
            )
            in_force = replace(self.in_force, problems=(problem,))
        else:
            in_force = InForce(self.state.revision, (), self._workload_reports())
        self._gauges.applied = in_force.revision
        if in_force != self.in_force:
            self.in_force = in_force
            self._on_change()

    def _write(self, builds: list[Desired]) -> None:
        for desired in builds[:-1]:
            self._writer.apply(desired)
        done = self._writer.apply(builds[-1])
        self.held = Held(self.state, self._facts, builds[-1])
        self._collector.rename(build_names(self.state, builds[-1], self._facts.cgroups))
        self._gauges.entries = self._writer.sizes
        if done.written or done.removed:
            self._gauges.apply_seconds = done.seconds
            _log.info(
                "kernel maps changed",
                extra={
                    "revision": self.state.revision,
                    "written": done.written,
                    "removed": done.removed,
                    "seconds": round(done.seconds, 4),
                },
            )

    def _workload_reports(self) -> tuple[WorkloadReport, ...]:
        reports = []
        for workload in self.state.local:
            name = (workload.metadata.namespace, workload.metadata.name)
            found = name in self._facts.cgroups
            reports.append(
                WorkloadReport(
                    namespace=name[0],
                    name=name[1],
                    ready=found,
                    message="" if found else f"no cgroup {workload.spec.cgroup} on this node yet",
                )
            )
        return tuple(reports)
