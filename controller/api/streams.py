"""Open-ended answers: feeds, watches, channels. Each is counted, bounded and ended at shutdown.

A stream's write waits until the peer has taken what was written before, so nothing piles up; a
peer that takes nothing for STALL seconds is disconnected, and lists again when it comes back.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from aiohttp import web

STALL = 20.0  # seconds
BUFFER = 64 * 1024  # bytes written and not yet taken by the kernel, for each peer

_log = logging.getLogger(__name__)


class Stream:
    """A response that is written bit by bit."""

    def __init__(self, request: web.Request, content_type: str, stall: float) -> None:
        self.response = web.StreamResponse(headers={"Content-Type": content_type})
        self._request = request
        self._stall = stall

    async def begin(self) -> None:
        await self.response.prepare(self._request)
        if self._request.transport:  # TLS would buffer half a megabyte for each peer
            self._request.transport.set_write_buffer_limits(high=BUFFER)

    async def write(self, data: bytes) -> None:
        """Write and wait until there is room again; TimeoutError if there is none for too long."""
        async with asyncio.timeout(self._stall):
            await self.response.write(data)


class Streams:
    """Every stream that is open now."""

    def __init__(self, stall: float = STALL) -> None:
        self._stall = stall
        self._tasks: dict[asyncio.Task[object], str] = {}
        self._owners: dict[tuple[str, str], asyncio.Task[object]] = {}

    def counts(self) -> dict[str, int]:
        """How many are open, by purpose."""
        return dict(Counter(self._tasks.values()))

    @contextmanager
    def entered(self, purpose: str, owner: str = "") -> Iterator[None]:
        """Count the current task as a stream; an owner's newest stream ends its former one."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  (a handler always runs in a task)
        if owner:
            former = self._owners.get((purpose, owner))
            if former:
                _log.warning("stream replaced", extra={"purpose": purpose, "owner": owner})
                former.cancel()
            self._owners[purpose, owner] = task
        self._tasks[task] = purpose
        try:
            yield
        finally:
            del self._tasks[task]
            if self._owners.get((purpose, owner)) is task:
                del self._owners[purpose, owner]

    @asynccontextmanager
    async def open(
        self, request: web.Request, purpose: str, owner: str = "", content_type: str = ""
    ) -> AsyncIterator[Stream]:
        """A JSON-lines answer to ``request``; a peer that goes away or stalls just ends it."""
        stream = Stream(request, content_type or "application/json", self._stall)
        with self.entered(purpose, owner):
            try:
                await stream.begin()
                yield stream
            except TimeoutError:
                _log.warning(
                    "stream stalled, disconnected", extra={"purpose": purpose, "owner": owner}
                )
                _abort(request)
            except ConnectionError:
                _log.debug("stream closed by its peer", extra={"purpose": purpose, "owner": owner})
            except Exception:  # noqa: BLE001  (an answer that has begun cannot become a refusal)
                _log.exception("stream failed", extra={"purpose": purpose, "owner": owner})
                _abort(request)

    def dismiss(self, purpose: str, owner: str) -> None:
        """End an owner's stream, if it has one."""
        task = self._owners.get((purpose, owner))
        if task:
            task.cancel()

    async def close(self) -> None:
        """End every stream."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)


def _abort(request: web.Request) -> None:
    if request.transport:
        request.transport.abort()
