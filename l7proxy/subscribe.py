"""Follows the controller's feed, and the saved one while there is no controller."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Awaitable, Callable

from l7proxy.backoff import Backoff
from l7proxy.feedfile import FeedFile
from meshapi.client import ApiClient
from meshapi.errors import HopliteError, UnavailableError
from meshapi.watch import FeedReducer, Snapshot

log = logging.getLogger(__name__)

_COMPONENT = "l7proxy"
_PATIENCE_SECONDS = 2.0  # for the first snapshot, before the saved one is used
_DOUBT_AFTER = 3  # failures in a row


class Subscriber:
    """Hands every snapshot to ``take``. ``client`` is the session with the controller, if any.

    ``changed`` is called when the controller comes or goes; ``doubt`` when connecting keeps
    failing, as our certificate may be why.
    """

    def __init__(
        self,
        server: str,
        node: str,
        tls: Callable[[], Awaitable[ssl.SSLContext]],
        saved: FeedFile,
        *,
        take: Callable[[Snapshot], None],
        changed: Callable[[], None],
        doubt: Callable[[], None],
    ) -> None:
        self.client: ApiClient | None = None
        self._server = server
        self._node = node
        self._tls = tls
        self._saved = saved
        self._take = take
        self._changed = changed
        self._doubt = doubt
        self._failures = 0
        self._received = False
        self._tried = asyncio.Event()

    async def run(self) -> None:
        """Follow for ever; each failure is followed by a longer pause."""
        backoff = Backoff(0.1, 10.0)
        while True:
            try:
                async with ApiClient(self._server, await self._tls()) as client:
                    await self._follow(client, backoff)
            except HopliteError as error:
                self._failures += 1
                log.warning("the feed ended", extra={"reason": str(error)})
            finally:
                self.client = None
                self._tried.set()
            self._changed()
            if self._failures % _DOUBT_AFTER == 0:
                self._doubt()
            await backoff.pause()

    async def fall_back(self) -> None:
        """Take the saved feed if the controller has not sent one soon after the start."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._tried.wait()
        saved = None if self._received else self._saved.load()
        if saved is not None:
            log.warning("using the saved feed", extra={"revision": saved.revision})
            self._take(saved)

    async def _follow(self, client: ApiClient, backoff: Backoff) -> None:
        reducer = FeedReducer()
        async for line in client.feed(self._node, _COMPONENT):
            snapshot = reducer.feed(line)
            if snapshot is None:
                continue
            if self.client is None:
                self.client = client
                self._failures = 0
                backoff.reset()
                self._changed()
            self._received = True
            self._tried.set()
            self._take(snapshot)
            self._saved.save(snapshot)
        raise UnavailableError("the controller closed the feed", where=self._server)
