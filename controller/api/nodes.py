"""A node's own endpoints: its feed, its reports, its channel, certificates for its components."""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Iterator

from aiohttp import WSMsgType, web

from controller import access, identitykeys, readiness
from controller.access import Caller
from controller.admission import Plan
from controller.api.body import answer, parameters, read
from controller.api.server import Route, caller_of
from controller.api.streams import Streams
from controller.ca.issuer import Issuer
from controller.distribution.channel import Channel, Channels
from controller.distribution.feed import Feeds
from controller.ledger import Ledger
from controller.pace import Pace
from controller.pulse import Pulse
from controller.reports import Reports
from meshapi.errors import ForbiddenError, HopliteError, InvalidError
from meshapi.resources import IdentityKey
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
        self._pace = Pace(readiness.HEALTH_EVERY, readiness.HEALTH_BURST)
        self._key_pace = Pace(identitykeys.KEYS_EVERY, identitykeys.KEYS_BURST)

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
        wrong = list(identitykeys.problems(report.identity_keys or ()))
        if wrong:
            raise InvalidError("NodeReport", wrong)
        seen = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if self._reports.put(node, report, time.monotonic(), seen):
            self._reported.beat()
        if report.component == "agent":
            await self._store(node, report.workloads)
            if report.identity_keys is not None:
                await self._store_keys(node, report.identity_keys)
        return answer(Accepted(self._ledger.state.revision))

    async def _store(self, node: str, reports: tuple[WorkloadReport, ...]) -> None:
        state = self._ledger.state
        steady = readiness.steadied(state, node, reports, self._pace, time.monotonic())
        if any(readiness.changes(state, node, steady)):
            await self._ledger.write(
                lambda newest: Plan(writes=tuple(readiness.changes(newest, node, steady)))
            )

    async def _store_keys(self, node: str, keys: tuple[IdentityKey, ...]) -> None:
        if any(identitykeys.changes(self._ledger.state, node, keys)) and self._key_pace.allows(
            node, time.monotonic()
        ):
            await self._ledger.write(
                lambda newest: Plan(writes=tuple(identitykeys.changes(newest, node, keys)))
            )

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


def _check_component(caller: Caller, stated: str) -> None:
    if stated != caller.component:
        raise ForbiddenError(
            f"{caller} speaks in the name of component {stated!r}",
            fix=f"write {caller.component}",
        )
