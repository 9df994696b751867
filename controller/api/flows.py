"""``GET …/flows``: one query to every connected node, the answers merged into JSON lines."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from contextlib import aclosing

import msgspec
from aiohttp import web

from controller import access
from controller.api.server import Route
from controller.api.streams import Streams
from controller.distribution import fanout
from controller.distribution.channel import Channels
from controller.distribution.feed import CHUNK
from controller.ledger import Ledger
from meshapi import flowfilter
from meshapi.errors import HopliteError, InvalidError, Problem, UnavailableError
from meshapi.flow import FlowQuery
from meshapi.resources import MeshNode
from meshapi.wire import FLOWS_PATH

MAX_QUERIES = 8  # at the same time; each may hold a few batches of every node
MAX_LAST = 100_000  # flows kept in memory to find the newest


class Flows:
    """Flow queries across the mesh."""

    def __init__(self, ledger: Ledger, channels: Channels, streams: Streams) -> None:
        self._ledger = ledger
        self._channels = channels
        self._streams = streams
        self._free = asyncio.Semaphore(MAX_QUERIES)

    def routes(self) -> Iterator[Route]:
        yield Route("GET", FLOWS_PATH, self._query, access.admin, "list", "flows")

    async def _query(self, request: web.Request) -> web.StreamResponse:
        query = read_query(dict(request.query), len(request.query))
        if self._free.locked():
            raise UnavailableError(
                f"{MAX_QUERIES} flow queries run already", fix="try again in a moment"
            )
        nodes = [key.name for key in self._ledger.state.of(MeshNode)]
        async with (
            self._free,
            self._streams.open(request, "flows") as stream,
            aclosing(fanout.flows(self._channels, nodes, query)) as replies,
        ):
            pending: list[bytes] = []
            size = 0
            async for reply in replies:
                pending.append(msgspec.json.encode(reply) + b"\n")
                size += len(pending[-1])
                if size >= CHUNK:
                    await stream.write(b"".join(pending))
                    pending, size = [], 0
            await stream.write(b"".join(pending))
        return stream.response


def read_query(given: dict[str, str], count: int) -> FlowQuery:
    """A flow query from ``count`` URL parameters; every refusal says what is allowed. Pure."""
    known = [f.encode_name for f in msgspec.structs.fields(FlowQuery)]
    for name in given:
        if name not in known:
            listed = ", ".join(known)
            raise _refused(name, "not a parameter of flow queries", f"known are {listed}")
    if count != len(given):
        raise _refused("$", "a parameter stands there twice", "give each once")
    try:
        query = msgspec.convert(given, FlowQuery, strict=False)
        flowfilter.check(query)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at ")
        name = path.strip("`").removeprefix("$.")
        raise _refused(name, what[:1].lower() + what[1:], _FORMS[name]) from error
    except HopliteError as error:
        raise _refused(error.where, error.what, error.fix) from error
    for name in ("since", "until"):
        value = getattr(query, name)
        if value is not None and not math.isfinite(value):
            raise _refused(name, f"{given[name]!r} is not a time", _FORMS[name])
    if query.last is not None and query.last > MAX_LAST:
        raise _refused("last", f"{query.last} flows", f"ask for at most {MAX_LAST}")
    return query


_FORMS = {
    "since": "write seconds since the epoch",
    "until": "write seconds since the epoch",
    "last": "write a number of flows",
}


def _refused(name: str, what: str, fix: str) -> InvalidError:
    return InvalidError("flows", [Problem(name, what, fix)])
