"""Watches: a range scan of the log from any version that is kept, then whatever comes.

A watch holds nothing but the version it has reached; a slow one simply reads the log later. Status
that is computed on read has no version of its own: its changes are sent as MODIFIED too, at most
once a second, from the moment a watch has reached the present.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from controller.api.events import SWEEP_INTERVAL, Follower, bookmark, failed
from controller.api.problems import status_of
from controller.api.select import Selection
from controller.errors import ExpiredError
from controller.ledger import Ledger
from controller.reports import Reports
from controller.status import View, look
from controller.store.base import Store
from meshapi.resources import Kind

BOOKMARK_INTERVAL = 30.0  # seconds
_BATCH = 500  # log entries


class Watches:
    """Follows one kind's objects for a client."""

    def __init__(self, ledger: Ledger, store: Store, reports: Reports) -> None:
        self._ledger = ledger
        self._store = store
        self._reports = reports

    async def check(self, since: int, kind: Kind) -> None:
        """Refuse a version that cannot be watched from (ExpiredError)."""
        await self._store.changes_after(since, kind.name, 1)

    async def follow(
        self, kind: Kind, chosen: Selection, since: int | None, bookmarks: bool
    ) -> AsyncIterator[bytes]:
        """Event lines for ever; a watch that fell too far behind ends with an ERROR event."""
        follower = Follower(kind, chosen)
        view = self._view()
        lines = list(follower.start(view))  # remembers what is there, also if it is not sent
        if since is None:
            since = view.state.revision
            for line in lines:
                yield line
            if bookmarks:
                yield bookmark(kind, since, initial=True)
        marked = time.monotonic()
        while True:
            try:
                since, lines = await self._step(follower, kind, since)
            except ExpiredError as error:
                yield failed(status_of(error))
                return
            for line in lines:
                yield line
            if bookmarks and time.monotonic() - marked >= BOOKMARK_INTERVAL:
                marked = time.monotonic()
                yield bookmark(kind, since)
            if not lines:
                await self._news(since, follower.computed)

    async def _step(self, follower: Follower, kind: Kind, since: int) -> tuple[int, list[bytes]]:
        """The next changes, or the computed status that has moved if there are none."""
        found = await self._store.changes_after(since, kind.name, _BATCH)
        view = self._view()
        lines = [line for entry in found.entries for line in follower.entry(view, entry)]
        if not lines and found.through >= view.state.revision:
            lines = list(follower.moved(view, time.monotonic()))
        return found.through, lines

    async def _news(self, since: int, computed: bool) -> None:
        """Wait for a newer revision, or until it is time to look at computed status again."""
        pause = SWEEP_INTERVAL if computed else BOOKMARK_INTERVAL
        try:
            async with asyncio.timeout(pause):
                await self._ledger.changed(since)
        except TimeoutError:
            return

    def _view(self) -> View:
        return look(self._ledger.state, self._reports, time.monotonic())
