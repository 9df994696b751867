"""The agent's wiring: the one place where its parts meet."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshapi import nodecontract
from meshapi.flow import Flow, FlowCoverage, FlowQuery
from meshapi.watch import Snapshot
from meshapi.wire import NodeReport
from nodeagent import listen, loopback, machine, notify, proxysocket, subscribe
from nodeagent.admin import Admin
from nodeagent.cgroups import CgroupFinder
from nodeagent.cgroupwatch import CgroupWatch
from nodeagent.channel import Channel
from nodeagent.config import AgentConfig
from nodeagent.datapath import interfacehooks
from nodeagent.datapath.attach import Attached, Datapath
from nodeagent.datapath.inheritance import Inheritance
from nodeagent.datapath.interfacehooks import InterfaceHooks
from nodeagent.datapath.node_keys import NodeKeys
from nodeagent.datapath.sync import Writer
from nodeagent.dns.upstreams import Upstreams
from nodeagent.established.cutter import Cutter
from nodeagent.feedstore import FeedStore
from nodeagent.guard import Guard
from nodeagent.health.metrics import HealthMetrics
from nodeagent.health.prober import Prober
from nodeagent.interfaces import InterfaceFinder
from nodeagent.join import Membership
from nodeagent.keys.keeper import Keeper
from nodeagent.layout import map_specs
from nodeagent.reconcile import Reconciler
from nodeagent.report import Reporter, report
from nodeagent.telemetry.collect import Collector
from nodeagent.telemetry.history import History
from nodeagent.telemetry.metrics import AgentMetrics, Gauges
from nodeagent.telemetry.outliers import OutlierWatch

if TYPE_CHECKING:
    from nodeagent.dns.server import DnsServer

_log = logging.getLogger(__name__)


def remove(config: AgentConfig) -> None:
    """Take everything that agents of this configuration put into the kernel off the machine."""
    if machine.owns_network(owns_machine=config.i_own_this_machine):
        interfacehooks.remove(Path(config.pin_dir))
    _datapath(config).remove()
    loopback.remove(_proxy_addresses(config))


class Agent:
    """One node's agent. What it puts into the kernel outlives it; ``remove`` takes it away."""

    def __init__(self, config: AgentConfig) -> None:
        """Load and attach, and enforce the stored state: nothing here needs the controller."""
        self._config = config
        root, pins, sizes = Path(config.cgroup_root), Path(config.pin_dir), config.sizes()
        machine.check(root, pins, owns_machine=config.i_own_this_machine)
        for folder in (config.state_dir, config.run_dir):
            Path(folder).mkdir(parents=True, exist_ok=True)
        self._datapath = _datapath(config)
        self._attached = self._datapath.load()
        loopback.ensure(_proxy_addresses(config))
        self._gauges = Gauges()
        self._changed = asyncio.Event()
        self._collector = Collector(
            self._datapath,
            History(config.flow_history, time.time()),
            sizes["events"],
            config.udp_idle_seconds,
        )
        self._cutter = Cutter(
            lambda: self._reconciler.compiler,
            lambda: self._reconciler.cgroups,
            self._datapath.open_map("sockets"),
            self._datapath.open_map("learnt"),
            root,
            on_cut=self._changed.set,
        )
        self._upstreams = Upstreams(config.dns_upstreams, config.dns())
        self._dns: DnsServer | None = None
        self._guard = self._make_guard(root)
        self._prober = Prober()
        node_keys = NodeKeys(self._datapath)
        self._reconciler = Reconciler(
            config.node_name,
            Writer(self._datapath),
            CgroupFinder(root),
            CgroupWatch(root),
            FeedStore(Path(config.state_dir) / "feed.jsonl"),
            self._collector,
            self._gauges,
            prober=self._prober,
            on_change=self._in_force,
            on_write=self._cutter.look,
            resolvers=self._upstreams.believed,
            host_netns=machine.netns_cookie(),
            guard=self._guard,
            identity=config.identity_tags and not node_keys.empty,
        )
        self._keeper = Keeper(
            Path(config.state_dir) / "identity.keys",
            config.identity_key_seconds,
            node_keys,
            lambda: self._reconciler.state,
            wanted=config.identity_tags,
            on_publish=self._changed.set,
            on_standing=self._reconciler.identify,
        )
        self._outliers = OutlierWatch(
            self._datapath.open_map("outliers"),
            lambda: self._reconciler.compiler,
            self._changed.set,
        )
        if self._reconciler.restore():
            revision = self._reconciler.in_force.revision
            _log.info("stored state in force", extra={"revision": revision})
        self._take_over(root)

    async def run(self) -> None:
        """Follow the controller and serve, until told to stop."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        membership = Membership(self._config)
        async with AsyncExitStack() as stack:
            await self._serve(stack, membership)
            notify.ready(f"revision {self._reconciler.in_force.revision} in force")
            await _until(
                stop,
                {
                    "member": self._member(membership),
                    "reconcile": self._reconciler.run(),
                    "collect": self._collector.run(),
                    "cut": self._cutter.run(),
                    "health": self._prober.run(),
                    "outliers": self._outliers.run(),
                    "keys": self._keeper.run(),
                },
            )

    def _make_guard(self, root: Path) -> Guard | None:
        """None if interfaces are not to be touched."""
        config = self._config
        if not machine.owns_network(owns_machine=config.i_own_this_machine):
            _log.warning("this is the machine's own network: its interfaces are left alone")
            return None
        if config.interface_hooks == "none":
            interfacehooks.remove(Path(config.pin_dir))
            return None
        hooks = InterfaceHooks(self._datapath, self._attached, config.interface_hooks)
        return Guard(InterfaceFinder(root, config.uplinks), hooks)

    def _take_over(self, root: Path) -> None:
        """Attach this release's programs, in the place of another's if there are any."""
        layouts = Path(self._config.state_dir) / "layouts.json"
        inheritance = Inheritance(self._datapath.map_folder, layouts, self._datapath.specs)
        inheritance.begin()
        self._attach(self._attached, root)
        self._reconciler.guard_interfaces()
        self._collector.take(inheritance.finish())
        self._datapath.forget_old(self._attached)

    def _attach(self, attached: Attached, root: Path) -> None:
        self._datapath.connect_calls(attached)
        self._datapath.attach(attached, "node", root)
        proxy = root / self._config.proxy_cgroup
        if proxy.is_dir():
            self._datapath.attach(attached, "proxy", proxy)
        else:
            _log.warning("no proxy cgroup: nothing is redirected", extra={"cgroup": str(proxy)})

    async def _serve(self, stack: AsyncExitStack, membership: Membership) -> None:
        config, run_dir = self._config, Path(self._config.run_dir)
        metrics = AgentMetrics(
            self._datapath.open_map("pairs"), self._collector, self._gauges, self._cutter.cut
        )
        names = self._answer_names()
        metrics.include(names.counters)
        metrics.include(HealthMetrics(self._prober))
        metrics.include(self._outliers)
        admin = Admin(
            self._reconciler,
            self._collector,
            metrics,
            self._datapath.open_map,
            self._pending,
            names=names.dump,
            backends=self._outliers.backends,
            standing=lambda: self._keeper.standing,
        )
        proxy = proxysocket.application(membership.sign, self._reconciler.redirect)
        await listen.on_unix(stack, admin.application(), run_dir / nodecontract.ADMIN_SOCKET, 0)
        await listen.on_unix(stack, proxy, run_dir / nodecontract.PROXY_SOCKET, config.proxy_uid)
        if config.metrics_listen:
            await listen.on_port(
                stack, admin.metrics_application(), config.metrics_listen, "metricsListen"
            )
        await names.serve(stack)

    def _answer_names(self) -> DnsServer:
        from nodeagent.dns.server import DnsServer  # late: the node is enforced by now

        config = self._config
        addresses = (*config.addresses, *_proxy_addresses(config))
        self._dns = DnsServer(config.node_name, config.dns(), self._upstreams, addresses)
        self._follow()
        return self._dns

    async def _member(self, membership: Membership) -> None:
        """Everything that needs the controller; the kernel goes on without it."""
        if not membership.joined:
            await membership.join()
        node, connect = self._config.node_name, membership.client
        reporter = Reporter(
            node,
            connect,
            self._say,
            self._changed,
        )
        channel = Channel(node, connect, self._ask, self._cover)
        async with asyncio.TaskGroup() as tasks:
            for name, work in (
                ("feed", subscribe.follow(connect, node, self._wish, self._connected)),
                ("report", reporter.run()),
                ("channel", channel.run()),
                ("certificate", membership.renew_for_ever()),
            ):
                tasks.create_task(work, name=name)

    def _say(self) -> NodeReport:
        in_force, features = self._reconciler.in_force, self._attached.features
        return report(
            in_force,
            features,
            self._cutter.cut,
            self._outliers.ejections,
            self._keeper.published,
        )

    def _in_force(self) -> None:
        """Something else is in force, or cannot be: names and keys follow what is."""
        self._follow()
        self._changed.set()
        self._keeper.look()

    def _follow(self) -> None:
        """Have names follow what is in force."""
        state = self._reconciler.state
        if self._dns and self._reconciler.in_force.revision == state.revision:
            self._dns.follow(state)

    def _pending(self) -> list[str]:
        return [] if self._reconciler.in_force.revision else ["a first revision"]

    def _wish(self, snapshot: Snapshot) -> None:
        self._reconciler.wish(snapshot)

    def _connected(self, up: bool) -> None:
        self._gauges.connected = up

    def _ask(self, query: FlowQuery) -> Iterator[Flow]:
        self._collector.drain()
        return self._collector.history.select(query)

    def _cover(self, returned: int) -> FlowCoverage:
        lost = self._collector.losses()["event"]
        return self._collector.history.coverage(self._config.node_name, returned, lost)


def _datapath(config: AgentConfig) -> Datapath:
    return Datapath(Path(config.pin_dir), map_specs(config.sizes()))


def _proxy_addresses(config: AgentConfig) -> tuple[str, ...]:
    fixed = (nodecontract.PROXY_ADDRESS4, nodecontract.PROXY_ADDRESS6)
    return (*fixed, *config.proxy_addresses)


async def _until(stop: asyncio.Event, work: dict[str, Coroutine[Any, Any, None]]) -> None:
    """Run every coroutine until ``stop``; one that ends early ends all, with its error."""
    tasks = {asyncio.create_task(c, name=name) for name, c in work.items()}
    stopping = asyncio.create_task(stop.wait(), name="stop")
    done, waiting = await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    for task in done & tasks:
        task.result()
