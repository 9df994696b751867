"""Wakes whoever waits for news, without queues and without polling."""

from __future__ import annotations

import asyncio


class Pulse:
    """Counts beats; a waiter that knows the count it has seen misses none."""

    def __init__(self) -> None:
        self.count = 0
        self._next = asyncio.Event()

    def beat(self) -> None:
        self.count += 1
        self._next.set()
        self._next = asyncio.Event()

    async def beyond(self, seen: int) -> None:
        """Return once there have been more beats than ``seen``."""
        while self.count <= seen:
            await self._next.wait()
