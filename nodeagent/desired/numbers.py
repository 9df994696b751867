"""Numbers for things that the kernel keys by: taken from content, so that they survive restarts.

A class, rule, service or slot table has the same number whenever and wherever it is computed, so
that a restarted agent finds its maps already right and never has to renumber under traffic.
"""

from __future__ import annotations

import hashlib

from meshapi.errors import HopliteError


def number(*parts: object) -> int:
    """A 32-bit number for some content, never 0 (which means "none")."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:4], "big") or 1


class Numbering:
    """Gives numbers and refuses the one in four billion case that two contents share one."""

    def __init__(self) -> None:
        self._owners: dict[int, object] = {}

    def of(self, *parts: object) -> int:
        found = number(*parts)
        owner = self._owners.setdefault(found, parts)
        if owner != parts:
            raise HopliteError(
                f"{parts} and {owner} hash to the same number",
                fix="change a label or name of one of them",
            )
        return found
