"""Numbers for things that the kernel keys by: taken from content, so that they survive restarts.

A class, rule, service or slot table has the same number whenever and wherever it is computed, so
that a restarted agent finds its maps already right and never has to renumber under traffic.
"""

from __future__ import annotations

import hashlib

from meshapi.errors import HopliteError

_LAST = 0xFFFFFFFF  # stands for "whoever" in the policy table


def number(*parts: object) -> int:
    """A 32-bit number for some content, never 0 (none) and never the last one (whoever)."""
    return number_of(repr(parts).encode())


def number_of(content: bytes) -> int:
    """The same for content that is bytes already."""
    found = int.from_bytes(hashlib.blake2b(content, digest_size=4).digest(), "big")
    return found if 0 < found < _LAST else 1


class Numbering:
    """Gives numbers and refuses the one in four billion case that two contents share one."""

    def __init__(self) -> None:
        self._owners: dict[int, object] = {}

    def of(self, *parts: object) -> int:
        found = number(*parts)
        self.claim(found, parts)
        return found

    def claim(self, found: int, owner: object) -> None:
        """``owner`` has this number; refuse if it is somebody else's."""
        held = self._owners.setdefault(found, owner)
        if held != owner:
            raise HopliteError(
                f"{owner} and {held} hash to the same number",
                fix="change a label or name of one of them",
            )

    def release(self, found: int) -> None:
        """Nobody has this number any more."""
        self._owners.pop(found, None)
