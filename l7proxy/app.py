"""Wiring: makes every part, connects them, runs them until the end. No decisions here."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

from l7proxy.admin import AdminApi
from l7proxy.agent import AgentLink
from l7proxy.certs import Credentials
from l7proxy.config import Config, Paths
from l7proxy.envoy.admin import EnvoyAdmin
from l7proxy.envoy.launch import LAUNCH, Launch
from l7proxy.envoy.supervisor import Supervisor
from l7proxy.feedfile import FeedFile
from l7proxy.lock import Lock
from l7proxy.metrics import Metrics, Reading
from l7proxy.reconcile import Reconciler, Timing
from l7proxy.reporter import Reporter
from l7proxy.resources.bootstrap import BootstrapOptions, bootstrap
from l7proxy.resources.names import Json
from l7proxy.rotate import LogRotation
from l7proxy.snapshot import ProxyOptions, render
from l7proxy.status import report
from l7proxy.subscribe import Subscriber
from l7proxy.xds.ads import Ads
from l7proxy.xds.server import AdsServer
from l7proxy.xds.types import Type
from meshapi.errors import ConfigError
from meshapi.wire import NodeReport

log = logging.getLogger(__name__)

_FAREWELL_SECONDS = 2.0  # for the agent to stop redirecting before Envoy ends
_STOP_PATIENCE_SECONDS = 3.0


class App:
    """All the parts of one l7proxy."""

    def __init__(self, config: Config, paths: Paths, max_connections: int) -> None:
        self._config = config
        self._paths = paths
        self._envoy_admin = EnvoyAdmin(paths.envoy_admin_socket)
        launch = _launch(config, paths, max_connections)
        self._ads = Ads(self._wake)
        self._ads_server = AdsServer(
            self._ads, paths.ads_socket, lambda node: node.get(LAUNCH) == launch.digest
        )
        self._envoy = Supervisor(launch, self._envoy_admin, self._wake)
        self._agent = AgentLink(Path(config.agent_socket), self._wake)
        self._options = ProxyOptions(
            access_log_path=str(paths.access_log),
            source_addresses=config.source_addresses,
            ipv6=_has_ipv6(),
        )
        self._reporter = Reporter(config.node_name, lambda: self._subscriber.client, self._report)
        self._reconciler = Reconciler(
            config.node_name,
            self._options,
            Timing(config.idle_grace_seconds, config.drain_seconds),
            ads=self._ads,
            envoy=self._envoy,
            admin=self._envoy_admin,
            agent=self._agent,
            changed=self._reporter.changed,
        )
        self._credentials = Credentials(paths.state, config.node_name, self._agent.sign)
        self._feed_file = FeedFile(paths.feed)
        self._subscriber = Subscriber(
            config.controller,
            config.node_name,
            self._credentials.tls,
            self._feed_file,
            take=self._reconciler.take,
            changed=self._reporter.changed,
            doubt=self._credentials.doubt,
        )
        self._admin = AdminApi(
            lambda: self._reconciler.status, self._snapshot, Metrics(self._read), self._envoy_admin
        )
        self._rotation = LogRotation(
            (paths.access_log, paths.envoy_log), config.access_log_max_bytes, self._envoy_admin
        )

    async def run(self) -> None:
        """Run until SIGTERM or SIGINT."""
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        await self._admin.start(self._paths.admin_socket, self._config.metrics_address)
        await self._ads_server.start()
        await self._envoy.adopt()
        try:
            async with asyncio.TaskGroup() as tasks:
                agent = tasks.create_task(self._agent.run(), name="agent")
                running = [
                    tasks.create_task(job, name=name)
                    for name, job in {
                        "envoy": self._envoy.run(),
                        "reconciler": self._reconciler.run(),
                        "credentials": self._credentials.run(),
                        "subscriber": self._subscriber.run(),
                        "fall-back": self._subscriber.fall_back(),
                        "feed-file": self._feed_file.run(),
                        "reporter": self._reporter.run(),
                        "log-rotation": self._rotation.run(),
                    }.items()
                ]
                log.info("ready", extra={"node": self._config.node_name})
                await stopped.wait()
                for task in running:
                    task.cancel()
                await self._say_farewell()
                agent.cancel()
        finally:
            await self._ads_server.stop()
            await self._admin.stop()
            self._feed_file.flush()
            self._paths.admin_socket.unlink(missing_ok=True)

    async def _say_farewell(self) -> None:
        """Have the agent stop redirecting, then end Envoy; or leave both to our successor."""
        if self._config.leave_envoy_on_stop:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL_SECONDS):
                await self._reconciler.retire()
        await self._envoy.stop(_STOP_PATIENCE_SECONDS)
        log.info("stopped")

    def _wake(self) -> None:
        self._reconciler.wake()

    def _report(self) -> NodeReport:
        return report(self._reconciler.status)

    def _snapshot(self) -> Json:
        """What we want Envoy to have, for people."""
        taken = self._reconciler.snapshot
        return {
            "revision": taken.revision if taken else 0,
            **render(self._reconciler.resources.view, self._options),
        }

    def _read(self) -> Iterator[Reading]:
        status, taken = self._reconciler.status, self._reconciler.snapshot
        connected = self._subscriber.client is not None
        yield Reading("controller_connected", "Whether the feed is open", connected)
        yield Reading("revision", "Newest revision received", taken.revision if taken else 0)
        yield Reading("revision_applied", "Newest revision in force in Envoy", status.revision)
        yield Reading("problems", "Resources that Envoy refuses", len(status.problems))
        yield Reading(
            "services_ready", "Service ports that Envoy serves", len(self._reconciler.ready)
        )
        yield Reading("envoy_up", "Whether Envoy runs", self._envoy.running)
        yield Reading("envoy_starts_total", "How often Envoy was started", self._envoy.starts)
        yield Reading("ads_acks_total", "Answers of Envoy that accept", self._ads.acks)
        yield Reading("ads_nacks_total", "Answers of Envoy that refuse", self._ads.nacks)
        for kind in Type:
            text = f"Resources of type {kind.name.lower()} on offer to Envoy"
            yield Reading(f"{kind.name.lower()}_offered", text, len(self._ads.offered(kind)))
        yield Reading(
            "certificate_expiry_timestamp_seconds",
            "When our certificate ends",
            self._credentials.expires,
        )


def run(config: Config) -> None:
    """Run until stopped by a signal; refusals are HopliteError."""
    os.umask(0o077)
    paths = Paths.of(config)
    for setting, directory in (("runDir", paths.run), ("stateDir", paths.state)):
        _make(setting, directory)
    with Lock(paths.lock):
        asyncio.run(_run(config, paths))


async def _run(config: Config, paths: Paths) -> None:
    """Parts are made inside the loop that they will run in."""
    await App(config, paths, max_connections=_raise_file_limit() // 2).run()


def _make(setting: str, directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        usable = os.access(directory, os.W_OK | os.X_OK)
        reason = "no permission to write"
    except OSError as error:
        usable, reason = False, error.strerror or str(error)
    if not usable:
        raise ConfigError(
            f"{setting}: {directory} cannot be used: {reason}",
            fix=f"make it, owned by user {os.geteuid()}, or set another",
        )


def _launch(config: Config, paths: Paths, max_connections: int) -> Launch:
    options = BootstrapOptions(
        node=config.node_name,
        ads_socket=str(paths.ads_socket),
        admin_socket=str(paths.envoy_admin_socket),
        max_heap_bytes=config.heap_bytes,
        max_connections=max_connections,
    )
    return Launch(
        binary=config.binary,
        run_dir=paths.run,
        log_path=paths.envoy_log,
        bootstrap=bootstrap(options),
        concurrency=config.workers,
        drain_seconds=config.drain_seconds,
    )


def _raise_file_limit() -> int:
    """Let Envoy, which inherits it, have as many open files as we may have; returns how many."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def _has_ipv6() -> bool:
    """Whether this kernel has IPv6 at all; Envoy refuses a listener that names it otherwise."""
    try:
        socket.socket(socket.AF_INET6).close()
    except OSError:
        return False
    return True
