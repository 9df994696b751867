"""The one place where the controller's parts are wired together."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import os
import signal
import socket
import uuid
from collections.abc import AsyncIterator
from functools import partial

from aiohttp import web

import meshapi
from controller import admission, listen
from controller.admission import Rules
from controller.admission.admit import BUILT_IN_NAMESPACES
from controller.api import discovery
from controller.api.apply import Apply
from controller.api.enforcement import Enforcement
from controller.api.flows import Flows
from controller.api.join import Join
from controller.api.nodes import Nodes
from controller.api.resources import Resources
from controller.api.server import Server, quiet
from controller.api.streams import Streams
from controller.api.watch import Watches
from controller.ca.files import ServerCertificate, load_authority
from controller.ca.issuer import Issuer
from controller.config import Config
from controller.distribution.channel import Channels
from controller.distribution.feed import Feeds
from controller.ledger import Ledger
from controller.metrics import Gauges, Metrics
from controller.pulse import Pulse
from controller.reports import Reports
from controller.statedir import admin_hashes, claimed
from controller.store.sqlite import SqliteStore
from meshapi.errors import ConfigError
from meshapi.resources import Namespace, ObjectMeta
from meshapi.wire import MeshSettings

_SHUTDOWN = 5.0  # seconds that ordinary requests have to finish

_log = logging.getLogger(__name__)


async def run(config: Config) -> None:
    """Serve until SIGTERM or SIGINT; every refusal to start is one clear line."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with contextlib.AsyncExitStack() as stack:
        directory = stack.enter_context(claimed(config.state_dir))
        authority = load_authority(directory / "ca", config.trust_domain)
        certificate = ServerCertificate(directory / "ca", authority, config.server_names)
        sockets = _sockets(config)
        store = await SqliteStore.open(directory / "store.db", config.watch_history)
        stack.push_async_callback(store.close)
        metrics = Metrics()
        ledger = await Ledger.load(store, metrics.commit_seconds.observe, config.root_namespace)
        stack.push_async_callback(ledger.drain)
        rules = _rules(config)
        await _built_in_namespaces(ledger, rules, config.root_namespace)
        lifetime = dt.timedelta(seconds=config.node_certificate_seconds)
        issuer = Issuer(authority, store, metrics, config.trust_domain, lifetime)
        hashes = await admin_hashes(directory, store)
        reports, reported, streams = Reports(), Pulse(), Streams()
        metrics.watch(Gauges(lambda: ledger.state, reports, streams.counts))
        channels = Channels()
        nodes = Nodes(
            ledger=ledger,
            reports=reports,
            reported=reported,
            feeds=Feeds(ledger, _mesh(config)),
            channels=channels,
            issuer=issuer,
            streams=streams,
        )
        watches = Watches(ledger, store, reports)
        server = Server(ledger, metrics, config.trust_domain, hashes)
        application = server.application(
            [
                *discovery.routes(metrics),
                *Resources(ledger, reports, rules, watches, streams).routes(),
                *Apply(ledger, rules).routes(),
                *Enforcement(ledger, reports, reported, streams).routes(),
                *Join(ledger, rules, issuer).routes(),
                *nodes.routes(),
                *Flows(ledger, channels, streams).routes(),
            ]
        )
        application.on_shutdown.append(partial(_end, streams))
        await stack.enter_async_context(_served(application, sockets, certificate))
        if config.metrics_listen:
            page = web.Application()
            page.router.add_get("/metrics", partial(discovery.page, metrics))
            plain = listen.opened([config.metrics_listen])
            await stack.enter_async_context(_served(page, plain, None))
        renewal = asyncio.create_task(_renew(certificate), name="renew-server-certificate")
        stack.callback(renewal.cancel)
        _log.info(
            "ready",
            extra={
                "listen": [listen.name(s) for s in sockets],
                "revision": ledger.state.revision,
                "version": meshapi.__version__,
            },
        )
        await stopping.wait()
        _log.info("stopping")


async def _end(streams: Streams, _application: web.Application) -> None:
    await streams.close()


@contextlib.asynccontextmanager
async def _served(
    application: web.Application, sockets: list[socket.socket], tls: ServerCertificate | None
) -> AsyncIterator[None]:
    logging.getLogger("aiohttp.server").addFilter(quiet)
    runner = web.AppRunner(
        application, access_log=None, handler_cancellation=True, shutdown_timeout=_SHUTDOWN
    )
    await runner.setup()
    try:
        for listening in sockets:
            await web.SockSite(runner, listening, ssl_context=tls.context if tls else None).start()
        yield
    finally:
        await runner.cleanup()


def _sockets(config: Config) -> list[socket.socket]:
    sockets = listen.inherited(os.environ, os.getpid()) + listen.opened(config.listen)
    if not sockets:
        raise ConfigError(
            "nothing to listen on",
            where="$.listen",
            fix="list an address such as 127.0.0.1:7443, or start me by socket activation",
        )
    return sockets


def _rules(config: Config) -> Rules:
    return Rules(
        trust_domain=config.trust_domain,
        ranges=config.ranges,
        now=lambda: dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        new_uid=lambda: str(uuid.uuid4()),
    )


def _mesh(config: Config) -> MeshSettings:
    return MeshSettings(
        trust_domain=config.trust_domain,
        domain=config.mesh_domain,
        root_namespace=config.root_namespace,
    )


async def _built_in_namespaces(ledger: Ledger, rules: Rules, root: str) -> None:
    missing = [
        Namespace(api_version="v1", kind="Namespace", metadata=ObjectMeta(name=name))
        for name in dict.fromkeys((*BUILT_IN_NAMESPACES, root))
        if ledger.state.namespace(name) is None
    ]
    await ledger.write(lambda state: admission.admit(state, missing, rules))


async def _renew(certificate: ServerCertificate) -> None:
    while True:
        await asyncio.sleep(certificate.renew_after.total_seconds())
        certificate.renew()
        _log.info("server certificate renewed")
