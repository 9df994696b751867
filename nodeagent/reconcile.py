"""The agent's one loop: whatever changed, make the kernel equal to desired state, then say so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from meshapi import nodecontract
from meshapi.errors import HopliteError
from meshapi.resources import Key, NodeProblem, Resource
from meshapi.watch import Snapshot
from meshapi.wire import WorkloadReport
from nodeagent.cgroups import CgroupFinder
from nodeagent.cgroupwatch import CgroupWatch
from nodeagent.datapath.sync import Change, Writer
from nodeagent.desired.compiler import Compiler
from nodeagent.desired.plan import Delta
from nodeagent.desired.units import Facts, PortName
from nodeagent.feedstore import FeedStore
from nodeagent.guard import Guard
from nodeagent.health.prober import Prober
from nodeagent.state import Name, NodeState, advance, difference
from nodeagent.telemetry.collect import Collector
from nodeagent.telemetry.metrics import Gauges
from nodeagent.telemetry.names import Names

_log = logging.getLogger(__name__)

_TICK_SECONDS = 1.0  # also how long what a change replaced stays, for packets half-way through
_PAUSE_SECONDS = 0.1  # between hearing that interfaces have changed and looking at them
_RETRY_TICKS = 10  # after a change that failed


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
        watch: CgroupWatch,
        store: FeedStore,
        collector: Collector,
        gauges: Gauges,
        *,
        prober: Prober,
        on_change: Callable[[], None],
        on_write: Callable[[], None],
        resolvers: Callable[[], tuple[tuple[str, int], ...]],
        host_netns: int,
        identity: bool,
        guard: Guard | None = None,
    ) -> None:
        self._writer = writer
        self._finder = finder
        self._watch = watch
        self._store = store
        self._collector = collector
        self._gauges = gauges
        self._prober = prober
        self._on_change = on_change
        self._on_write = on_write
        self._resolvers = resolvers
        self._guard = guard
        self._guarding = False  # not before the programs of sockets are there
        self._facts = Facts(
            host_netns=host_netns,
            proxy4=nodecontract.PROXY_ADDRESS4,
            proxy6=nodecontract.PROXY_ADDRESS6,
            proxy_port=nodecontract.PROXY_OUTBOUND_PORT,
            identity=identity,
        )
        self._wake = asyncio.Event()
        prober.on_change = self._wake.set
        self._wished: Snapshot | None = None
        self._wanted = Snapshot(0, {})
        self._objects: Mapping[Key, Resource] = {}  # what the compiler has been told of
        self._in_step = False  # whether the kernel holds what the compiler says
        self._failures = 0
        self.compiler = Compiler(node)
        self.in_force = InForce()

    @property
    def state(self) -> NodeState:
        """The newest state that was compiled."""
        return self.compiler.state

    @property
    def cgroups(self) -> dict[Name, tuple[int, int]]:
        """The cgroups of this node's workloads that were found: id and level."""
        return self._facts.cgroups

    # -- what changes -----------------------------------------------------------------------------

    def restore(self) -> bool:
        """Enforce the stored state, before anything else is heard; False when there is none."""
        snapshot = self._store.load()
        if snapshot is None:
            return False
        self._apply(snapshot)
        return True

    def wish(self, snapshot: Snapshot) -> None:
        """A newer revision came."""
        self._wished = snapshot if self._wished is None else snapshot.after(self._wished)
        self._gauges.revision = snapshot.revision
        self._wake.set()

    def redirect(self, services: frozenset[PortName]) -> None:
        """The node proxy is ready for exactly these service ports; in force when this returns."""
        if services != self._facts.redirected:
            self._facts = replace(self._facts, redirected=services)
            self._apply()

    def identify(self, on: bool) -> None:
        """Whether identities in SYNs are looked at from now on."""
        if on != self._facts.identity:
            self._facts = replace(self._facts, identity=on)
            self._apply()

    def guard_interfaces(self) -> None:
        """The programs of sockets are there; from now on have those of interfaces too."""
        self._guarding = True
        if self._guard is not None and self.state.revision:
            self._apply()

    # -- the loop ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Apply what comes; every tick look around and drop what the last change replaced."""
        asyncio.get_running_loop().add_reader(self._watch, self._wake.set)
        self._hear_of_interfaces()
        while True:
            try:
                async with asyncio.timeout(_TICK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                self._tick()
                continue
            self._wake.clear()
            snapshot, self._wished = self._wished, None
            if snapshot is not None or self._look(self.state) != self._facts:
                self._apply(snapshot)

    def _hear_of_interfaces(self) -> None:
        if self._guard is not None:
            loop = asyncio.get_running_loop()
            loop.add_reader(self._guard, self._interfaces_changed, self._guard)

    def _interfaces_changed(self, guard: Guard) -> None:
        """Look soon, but not as often as a pod makes its interface change."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(guard)
        loop.call_later(_PAUSE_SECONDS, self._wake.set)
        loop.call_later(2 * _PAUSE_SECONDS, self._hear_of_interfaces)

    def _tick(self) -> None:
        if self._look(self.state) != self._facts:  # a cgroup appeared, vanished, or was made anew
            self._apply()
            return
        if not self._in_step:
            self._failures += 1
            if self._failures % _RETRY_TICKS == 0:
                self._apply()
            return
        if self._writer.unsettled:
            self._writer.settle()
        delta = self.compiler.settle()
        if delta is not None:
            self._write([delta])

    def _apply(self, snapshot: Snapshot | None = None) -> None:
        """Kernel first, then the disk, and only then the word that it is in force."""
        try:
            self._write(self._compile(snapshot))
            self._put_guards()
            if snapshot is not None:
                self._store.save(snapshot)
        except (HopliteError, OSError) as error:
            _log.error("revision not in force", extra={"error": str(error)})
            problem = NodeProblem(
                kind="MeshNode", name=self.state.node, reason="NotInForce", message=str(error)
            )
            in_force = replace(self.in_force, problems=(problem,))
        else:
            in_force = InForce(self.state.revision, (), self._workload_reports())
        self._gauges.applied = in_force.revision
        if in_force != self.in_force:
            self.in_force = in_force
            self._on_change()

    def _look(self, state: NodeState) -> Facts:
        """The facts as they are now, and word when they change."""
        self._watch.follow(state.local)
        cgroups = self._finder.find(state.local)
        facts = replace(
            self._facts,
            cgroups=cgroups,
            resolvers=self._resolvers(),
            unhealthy=self._prober.unhealthy,
        )
        if self._guard is None:
            return facts
        return replace(facts, interfaces=self._guard.find(state.local, cgroups))

    def _put_guards(self) -> None:
        """Have programs at the interfaces that the maps speak of now; tried again if it fails."""
        if self._guard is not None and self._guarding:
            self._in_step = False
            self._guard.make(self._facts.interfaces, self.compiler.settings.flags)
            self._in_step = True

    def _compile(self, snapshot: Snapshot | None) -> list[Delta]:
        """What the newest wish and facts ask for; after a failure, all of it from the beginning."""
        in_step, self._in_step = self._in_step, False
        if snapshot is not None:
            self._wanted = snapshot if in_step else replace(snapshot, changed=None)
        if not in_step:
            self.compiler = Compiler(self.state.node)
            self._objects = {}
        changes = difference(self._objects, self._wanted)
        state = advance(self.state, self._wanted, changes)
        self._prober.follow(state)
        self._facts = self._look(state)
        deltas = self.compiler.update(state, changes, self._facts)
        self._objects = self._wanted.objects
        self._wanted = replace(self._wanted, changed=frozenset())
        self._in_step = in_step
        return deltas

    def _write(self, deltas: list[Delta]) -> None:
        if self._in_step:
            self._in_step = False
            done = sum((self._writer.apply(delta) for delta in deltas), start=Change())
        else:
            done = self._writer.make_equal(self.compiler.tables, self.compiler.settings)
        self._in_step = True
        self._collector.rename(
            Names(
                self.state,
                {number: name for name, (number, _) in self._facts.cgroups.items()},
                self.compiler.services,
                self.compiler.rules,
            )
        )
        self._gauges.entries = {name: len(table) for name, table in self.compiler.tables.items()}
        if done.written or done.removed:
            self._on_write()
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
            message = "" if found else f"no cgroup {workload.spec.cgroup} on this node yet"
            if name in self._facts.interfaces.unguarded:
                message = "no veth of its own on this node: only its sockets are policed"
            reports.append(
                WorkloadReport(
                    namespace=name[0],
                    name=name[1],
                    ready=found,
                    message=message,
                    unhealthy_ports=self._facts.unhealthy.get(name, ()),
                )
            )
        return tuple(reports)
