"""Identity numbers: one per (trust domain, namespace, service account), given once, for ever. Pure.

The numbers stand in a table of their own that nothing is ever deleted from, so a number is never
given to anybody else: kernel maps and stored flows may still hold it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from meshapi.errors import HopliteError
from meshapi.identity import FIRST, LAST, WorkloadIdentity


def assign(
    known: Mapping[WorkloadIdentity, int], wanted: Iterable[WorkloadIdentity]
) -> dict[WorkloadIdentity, int]:
    """Numbers for those of ``wanted`` that have none yet, counting on from the highest known."""
    fresh: dict[WorkloadIdentity, int] = {}
    last = max(known.values(), default=FIRST - 1)
    for identity in wanted:
        if identity in known or identity in fresh:
            continue
        last += 1
        if last > LAST:
            raise HopliteError(
                f"all {LAST - FIRST + 1} identity numbers are given out",
                where=identity.uri,
                fix="run it under a service account that has a number already",
            )
        fresh[identity] = last
    return fresh
