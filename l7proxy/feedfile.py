"""The last good feed on disk, in the feed's own format, so that the same reducer reads it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import msgspec

from l7proxy.files import write_atomically
from meshapi.errors import HopliteError
from meshapi.watch import FeedReducer, Snapshot
from meshapi.wire import FeedFrame

log = logging.getLogger(__name__)

_LEAST_SECONDS_BETWEEN = 1.0


class FeedFile:
    """``save`` marks what to write; ``run`` writes it, the newest only and not too often."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: Snapshot | None = None
        self._changed = asyncio.Event()

    def load(self) -> Snapshot | None:
        """What was saved last; None if there is nothing or it cannot be read."""
        if not self._path.exists():
            return None
        reducer, snapshot = FeedReducer(), None
        try:
            for line in self._path.read_bytes().splitlines():
                snapshot = reducer.feed(line) or snapshot
        except (HopliteError, OSError) as error:
            log.warning("the saved feed cannot be used", extra={"reason": str(error)})
            return None
        return snapshot

    def save(self, snapshot: Snapshot) -> None:
        self._pending = snapshot
        self._changed.set()

    async def run(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await asyncio.to_thread(self.flush)
            await asyncio.sleep(_LEAST_SECONDS_BETWEEN)

    def flush(self) -> None:
        """Write what is marked, if anything."""
        snapshot, self._pending = self._pending, None
        if snapshot is None:
            return
        try:
            write_atomically(self._path, _text(snapshot))
        except OSError as error:
            log.error(
                "the feed cannot be saved", extra={"path": str(self._path), "reason": str(error)}
            )


def _text(snapshot: Snapshot) -> bytes:
    frames = [
        FeedFrame(type="RESET", mesh=snapshot.mesh),
        *(FeedFrame(type="PUT", object=msgspec.to_builtins(r)) for r in snapshot.objects.values()),
        FeedFrame(type="REVISION", revision=snapshot.revision),
    ]
    return b"\n".join(msgspec.json.encode(frame) for frame in frames) + b"\n"
