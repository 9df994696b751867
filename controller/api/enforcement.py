"""Who has put a revision into force: what ``hopctl apply --wait`` waits for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import msgspec
from aiohttp import web

from controller import access
from controller.api.body import number, parameters
from controller.api.server import Route
from controller.api.streams import Streams
from controller.errors import BadRequestError
from controller.ledger import Ledger
from controller.pulse import Pulse
from controller.reports import Reports, heard_of
from controller.status import View, look
from meshapi.resources import Key, MeshNodeStatus
from meshapi.wire import ENFORCEMENT_PATH, EnforcementReply

_RECHECK = 1.0  # seconds; a node goes stale without a report


class Enforcement:
    """``GET …/enforcement?revision=N``: one line on every change until nobody is awaited."""

    def __init__(self, ledger: Ledger, reports: Reports, reported: Pulse, streams: Streams) -> None:
        self._ledger = ledger
        self._reports = reports
        self._reported = reported
        self._streams = streams

    def routes(self) -> Iterator[Route]:
        yield Route("GET", ENFORCEMENT_PATH, self._follow, access.admin, "follow", "enforcement")

    async def _follow(self, request: web.Request) -> web.StreamResponse:
        revision = number(parameters(request, "revision"), "revision")
        if revision is None or revision > self._ledger.state.revision:
            newest = self._ledger.state.revision
            raise BadRequestError(
                f"revision {revision} is not one of this store",
                where="revision",
                fix=f"give 1 to {newest}",
            )
        async with self._streams.open(request, "enforcement") as stream:
            shown = None
            while True:
                seen = self._reported.count
                reply = reckon(look(self._ledger.state, self._reports, time.monotonic()), revision)
                if reply != shown:
                    await stream.write(msgspec.json.encode(reply) + b"\n")
                    shown = reply
                if not reply.waiting:
                    break
                await self._news(seen)
        return stream.response

    async def _news(self, seen: int) -> None:
        try:
            async with asyncio.timeout(_RECHECK):
                await self._reported.beyond(seen)
        except TimeoutError:
            return


def reckon(view: View, revision: int) -> EnforcementReply:
    """Which nodes have acknowledged ``revision``; one that starts something is waited for. Pure."""
    present = {name: status for name, status in view.nodes.items() if heard_of(status)}
    waiting = [name for name, status in present.items() if status.applied_revision < revision]
    return EnforcementReply(
        revision=revision,
        enforcing=len(present) - len(waiting),
        present=len(present),
        waiting=tuple(sorted(waiting)),
        problems=tuple(p for name in sorted(waiting) for p in _problems(name, present[name])),
        absent=tuple(sorted(set(view.nodes) - set(present))),
    )


def _problems(node: str, status: MeshNodeStatus) -> Iterator[str]:
    for part in (status.agent, status.l7proxy):
        for problem in part.problems if part else ():
            key = Key(problem.kind, problem.namespace, problem.name)
            yield f"{node}: {key}: {problem.message or problem.reason}"
