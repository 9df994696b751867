"""Follows the controller's feed and hands on every consistent snapshot."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from meshapi.client import ApiClient
from meshapi.errors import HopliteError, UnavailableError
from meshapi.watch import FeedReducer, Snapshot

_log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0


async def follow(
    connect: Callable[[], ApiClient],
    node: str,
    on_snapshot: Callable[[Snapshot], None],
    on_connected: Callable[[bool], None],
) -> None:
    """Follow the feed for ever; reconnect with growing, jittered pauses.

    ``connect`` makes a client with the certificate that is current then.
    """
    pause = _FIRST_PAUSE
    while True:
        try:
            async with connect() as client:
                reducer = FeedReducer()
                async for line in client.feed(node, "agent"):
                    pause = _FIRST_PAUSE
                    on_connected(True)
                    snapshot = reducer.feed(line)
                    if snapshot is not None:
                        on_snapshot(snapshot)
            _log.info("the controller closed the feed")
        except UnavailableError as error:
            _log.warning("feed lost", extra={"error": str(error), "retry_seconds": round(pause, 1)})
        except HopliteError as error:
            _log.error(
                "feed refused", extra={"error": str(error), "retry_seconds": round(pause, 1)}
            )
        on_connected(False)
        await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
        pause = min(pause * 2, _LONGEST_PAUSE)
