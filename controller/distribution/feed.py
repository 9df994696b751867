"""A node's feed: the whole scope first, then the newest state whenever there is one.

A reader that is behind gets one batch that leads to the newest state, not every step; nothing is
queued for it. The lines are those of ``meshapi.wire``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import chain

import msgspec

from controller.distribution.scope import Scopes, changed, delta, scopes
from controller.ledger import Ledger
from meshapi.resources import Key
from meshapi.wire import FeedFrame, MeshSettings

PING_INTERVAL = 15.0  # seconds
CHUNK = 64 * 1024  # bytes; what is written to a reader at once

_PING = msgspec.json.encode(FeedFrame(type="PING")) + b"\n"


class Feeds:
    """The scopes of the newest state, computed once per revision for all readers."""

    def __init__(
        self, ledger: Ledger, mesh: MeshSettings, *, ping_interval: float = PING_INTERVAL
    ) -> None:
        self._ledger = ledger
        self._reset = msgspec.json.encode(FeedFrame(type="RESET", mesh=mesh)) + b"\n"
        self._ping_interval = ping_interval
        self._newest = Scopes()
        self._step: tuple[Scopes, Scopes, list[Key]] = (self._newest, self._newest, [])

    async def follow(self, node: str) -> AsyncIterator[bytes]:
        """Chunks of whole lines; ends when the node leaves the mesh."""
        sent = Scopes()
        yield self._reset
        while True:
            newest = self._scopes()
            if not newest.has(node):
                return
            lines = delta(sent, newest, node, self._changed(sent, newest))
            for chunk in _chunks(chain(lines, [_revision(newest.state.revision)])):
                yield chunk
            sent = newest
            while not await self._news(sent.state.revision):
                yield _PING

    async def _news(self, since: int) -> bool:
        try:
            async with asyncio.timeout(self._ping_interval):
                await self._ledger.changed(since)
        except TimeoutError:
            return False
        return True

    def _scopes(self) -> Scopes:
        state = self._ledger.state
        if state is not self._newest.state:
            self._newest = scopes(state, self._newest)
        return self._newest

    def _changed(self, old: Scopes, new: Scopes) -> list[Key]:
        """``scope.changed``, remembered for the readers that take the same step."""
        if self._step[0] is not old or self._step[1] is not new:
            self._step = (old, new, changed(old, new))
        return self._step[2]


def _revision(revision: int) -> bytes:
    return msgspec.json.encode(FeedFrame(type="REVISION", revision=revision)) + b"\n"


def _chunks(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Lines joined to writes of about CHUNK bytes."""
    pending: list[bytes] = []
    size = 0
    for line in lines:
        pending.append(line)
        size += len(line)
        if size >= CHUNK:
            yield b"".join(pending)
            pending, size = [], 0
    if pending:
        yield b"".join(pending)
