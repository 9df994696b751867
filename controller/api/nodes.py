"""A node's own endpoints: its feed, its reports, its channel, certificates for its components."""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Iterator

from aiohttp import WSMsgType, web
from msgspec.structs import replace

from controller import access
from controller.access import Caller
from controller.admission import Plan, Write
from controller.api.body import answer, parameters, read
from controller.api.server import Route, caller_of
from controller.api.streams import Streams
from controller.ca.issuer import Issuer
from controller.distribution.channel import Channel, Channels
from controller.distribution.feed import Feeds
from controller.ledger import Ledger
from controller.pulse import Pulse
from controller.reports import Reports
from controller.state import State
from meshapi.errors import ForbiddenError, HopliteError
from meshapi.resources import Key, Workload
from meshapi.wire import BASE, CertificateRequest, NodeReport, Wire, WorkloadReport

HEARTBEAT = 15.0  # seconds between websocket pings
MAX_MESSAGE = 16 * 1024 * 1024  # bytes of one answer's batch

_log = logging.getLogger(__name__)


class Accepted(Wire, frozen=True):
    """The answer to a report: the revision of the store, so that a node knows how far it is."""

    revision: int


class Nodes:
    """The handlers below ``…/meshnodes/<node>/``."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        reports: Reports,
        reported: Pulse,
        feeds: Feeds,
        channels: Channels,
        issuer: Issuer,
        streams: Streams,
    ) -> None:
        self._ledger = ledger
        self._reports = reports
        self._reported = reported
        self._feeds = feeds
        self._channels = channels
        self._issuer = issuer
        self._streams = streams

    def routes(self) -> Iterator[Route]:
        at = f"{BASE}/meshnodes/{{node}}"
        yield Route("GET", f"{at}/feed", self._feed, access.component, "follow", "feed")
        yield Route("PUT", f"{at}/report", self._report, access.component, "put", "report")
        yield Route("GET", f"{at}/channel", self._channel, access.agent, "follow", "channel")
        yield Route("POST", f"{at}/certificates", self._sign, access.agent, "create", "certificate")

    async def _feed(self, request: web.Request) -> web.StreamResponse:
        node = request.match_info["node"]
        _check_component(caller_of(request), parameters(request, "component").get("component", ""))
        owner = f"{node}/{caller_of(request).component}"
        async with self._streams.open(request, "feed", owner) as stream:
            async for chunk in self._feeds.follow(node):
                await stream.write(chunk)
        return stream.response

    async def _report(self, request: web.Request) -> web.Response:
        parameters(request)
        node = request.match_info["node"]
        report = await read(request, NodeReport)
        _check_component(caller_of(request), report.component)
        seen = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if self._reports.put(node, report, time.monotonic(), seen):
            self._reported.beat()
        if report.component == "agent" and readiness(self._ledger.state, node, report.workloads):
            await self._ledger.write(
                lambda state: Plan(writes=tuple(readiness(state, node, report.workloads)))
            )
        return answer(Accepted(self._ledger.state.revision))

    async def _channel(self, request: web.Request) -> web.StreamResponse:
        node = request.match_info["node"]
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT, max_msg_size=MAX_MESSAGE)
        channel = Channel(node, socket.send_str)
        with self._streams.entered("channel", node):
            await socket.prepare(request)
            self._channels.opened(channel)
            try:
                async for message in socket:
                    if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                        await channel.deliver(message.data)
            except HopliteError as error:
                _log.warning("channel closed", extra={"node": node, "why": str(error)})
            finally:
                self._channels.closed(channel)
                await socket.close()
        return socket

    async def _sign(self, request: web.Request) -> web.Response:
        parameters(request)
        message = await read(request, CertificateRequest)
        node = request.match_info["node"]
        return answer(self._issuer.issue(message.component, node, message.csr))


def readiness(state: State, node: str, reports: tuple[WorkloadReport, ...]) -> list[Write]:
    """What a node's word on its own workloads changes; others' workloads are not its business."""
    writes = []
    workloads = state.of(Workload)
    for report in reports:
        key = Key("Workload", report.namespace, report.name)
        old = workloads.get(key)
        if old is None or old.spec.node_name != node:
            continue  # deleted or moved since the node looked
        status = replace(old.status, ready=report.ready, message=report.message)
        if status != old.status:
            writes.append(Write(key, old, replace(old, status=status)))
    return writes


def _check_component(caller: Caller, stated: str) -> None:
    if stated != caller.component:
        raise ForbiddenError(
            f"{caller} speaks in the name of component {stated!r}",
            fix=f"write {caller.component}",
        )
