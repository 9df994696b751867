"""Clusters that no route names any more but that open connections may still need; pure."""

from __future__ import annotations

from collections.abc import Collection


class Lingering:
    """Gives each such cluster ``seconds`` from when it was last named."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: dict[str, float] = {}

    def update(self, present: Collection[str], named: Collection[str], now: float) -> None:
        """``present`` are the clusters that Envoy has, ``named`` those that its routes name."""
        self._until = {
            name: self._until.get(name, now + self._seconds)
            for name in present
            if name not in named
        }

    def over(self, now: float) -> set[str]:
        """The clusters whose time is over."""
        return {name for name, until in self._until.items() if until <= now}

    @property
    def next_end(self) -> float | None:
        return min(self._until.values(), default=None)
