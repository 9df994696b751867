"""Pauses between attempts: doubling, with jitter so that nodes do not return in step."""

from __future__ import annotations

import asyncio
import random


class Backoff:
    """Pauses from ``first`` to ``longest`` seconds, each in the upper half of its span."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._next = first

    async def pause(self) -> None:
        span, self._next = self._next, min(self._longest, self._next * 2)
        await asyncio.sleep(span * random.uniform(0.5, 1.0))  # noqa: S311 - not a secret

    def reset(self) -> None:
        self._next = self._first
