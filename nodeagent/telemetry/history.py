"""The last flows of this node, in memory: bounded, oldest out first, losses counted."""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from meshapi.flow import Flow, FlowCoverage, FlowQuery
from meshapi.flowfilter import matches
from nodeagent.layout import EVENT, Event
from nodeagent.telemetry.flows import from_event
from nodeagent.telemetry.names import Names


@dataclass(frozen=True)
class _Chunk:
    """Records that were read together: raw, with the names that were in force then."""

    records: bytes
    names: Names
    clock_offset: int

    @property
    def count(self) -> int:
        return len(self.records) // EVENT.size


class History:
    """Records are kept raw (152 bytes each) and named when somebody asks."""

    def __init__(self, limit: int, since: float) -> None:
        self._limit = limit
        self._since = since
        self._chunks: deque[_Chunk] = deque()
        self.held = 0
        self.evicted = 0
        self.total = 0

    def add(self, records: bytes, names: Names, clock_offset: int) -> None:
        """Append packed EVENT records, oldest first."""
        chunk = _Chunk(records, names, clock_offset)
        self._chunks.append(chunk)
        self.held += chunk.count
        self.total += chunk.count
        while self.held > self._limit and len(self._chunks) > 1:
            gone = self._chunks.popleft()
            self.held -= gone.count
            self.evicted += gone.count
            oldest = EVENT.unpack_from(gone.records, len(gone.records) - EVENT.size)[0]
            self._since = (oldest + gone.clock_offset) / 1e9

    def select(self, query: FlowQuery) -> Iterator[Flow]:
        """The flows that a query means, oldest first (``last`` keeps the newest of them)."""
        flows = self._matching(query)
        if query.last is None:
            return flows
        return iter(deque(flows, maxlen=query.last))

    def coverage(self, node: str, returned: int, lost: int) -> FlowCoverage:
        """What an answer covers: ``lost`` records never reached user space."""
        return FlowCoverage(
            node=node,
            returned=returned,
            lost=lost,
            evicted=self.evicted,
            since=dt.datetime.fromtimestamp(self._since, dt.UTC).isoformat(timespec="milliseconds"),
        )

    def _matching(self, query: FlowQuery) -> Iterator[Flow]:
        since = query.since * 1e9 if query.since is not None else 0
        until = query.until * 1e9 if query.until is not None else float("inf")
        for chunk in list(self._chunks):
            for fields in EVENT.iter_unpack(chunk.records):
                if not since <= fields[0] + chunk.clock_offset <= until:
                    continue
                flow = from_event(Event(*fields), chunk.names, chunk.clock_offset)
                if matches(query, flow):
                    yield flow
