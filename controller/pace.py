"""A bound on how often something may change. Pure."""

from __future__ import annotations

from collections.abc import Hashable


class Pace:
    """Lets everybody change ``burst`` times in a row, and once every ``every`` seconds after that.

    What is kept of a subject is the time until which its changes have been used up, and only while
    that lies in the future.
    """

    def __init__(self, every: float, burst: int) -> None:
        self._every = every
        self._ahead = every * (burst - 1)
        self._used_until: dict[Hashable, float] = {}
        self._sweep_at = 1024

    def allows(self, subject: Hashable, now: float) -> bool:
        """Whether ``subject`` may change at ``now`` (seconds of a steady clock); then it has."""
        until = max(self._used_until.get(subject, now), now)
        if until - now > self._ahead:
            return False
        self._used_until[subject] = until + self._every
        self._sweep(now)
        return True

    def __len__(self) -> int:
        return len(self._used_until)

    def _sweep(self, now: float) -> None:
        """Forget who has been quiet, whenever the number of those that are kept has doubled."""
        if len(self._used_until) >= self._sweep_at:
            self._used_until = {s: u for s, u in self._used_until.items() if u > now}
            self._sweep_at = max(1024, 2 * len(self._used_until))
