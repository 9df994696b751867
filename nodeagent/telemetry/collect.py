"""Brings kernel records to the history: drains the ring buffer and sweeps quiet UDP exchanges."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field

from meshapi.verdict import Reason, Verdict
from nodeagent import layout
from nodeagent.datapath.attach import Datapath
from nodeagent.datapath.ring import Ring
from nodeagent.layout import DATAGRAM_KEY, EVENT, FLOW, LOSSES, DatagramFlow, Pair
from nodeagent.telemetry.flows import idle_datagrams
from nodeagent.telemetry.history import History
from nodeagent.telemetry.names import Names

_log = logging.getLogger(__name__)

_DRAIN_SECONDS = 0.1
_SWEEP_SECONDS = 2.0


@dataclass
class Collector:
    """The reader of the ring buffer, and of the counters that say what was lost."""

    datapath: Datapath
    history: History
    ring_bytes: int
    udp_idle: float
    names: Names | None = None
    swept: dict[Pair, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._ring = Ring(self.datapath.open_map("events").fd, self.ring_bytes)
        self._datagrams = self.datapath.open_map("datagrams")
        self._losses = self.datapath.open_map("losses")

    async def run(self) -> None:
        """Drain and sweep for ever."""
        next_sweep = time.monotonic() + _SWEEP_SECONDS
        while True:
            await asyncio.sleep(_DRAIN_SECONDS)
            self.drain()
            if time.monotonic() >= next_sweep:
                self.sweep()
                next_sweep = time.monotonic() + _SWEEP_SECONDS

    def drain(self) -> None:
        """Move what the ring buffer holds into the history, once there are names for it."""
        if self.names is None:
            return  # an earlier agent's records wait in the kernel until the stored state is back
        records = self._ring.drain()
        if records:
            self.history.add(records, self.names, _clock_offset())

    def take(self, records: bytes) -> None:
        """Add events that an earlier release left. Without a stored state they have no names."""
        if records and self.names is None:
            lost = len(records) // EVENT.size
            _log.warning("no stored state: flows of before are not told", extra={"flows": lost})
        elif records and self.names is not None:
            self.history.add(records, self.names, _clock_offset())

    def rename(self, names: Names) -> None:
        """Use other names from now on; what was recorded so far keeps the former ones."""
        self.drain()
        self.names = names

    def sweep(self) -> None:
        """Record and forget UDP exchanges without a datagram for ``udp_idle`` seconds."""
        if self.names is None:
            return
        now = time.monotonic_ns()
        limit = now - int(self.udp_idle * 1e9)
        records = []
        for key, value in self._datagrams.items():
            if DatagramFlow(*FLOW.unpack(value)).established >= limit:
                continue
            held = self._datagrams.pop(key)
            if held is None:
                continue
            flow = DatagramFlow(*FLOW.unpack(held))
            if flow.verdict == Verdict.DENY:
                continue  # told when it was refused
            cookie = DATAGRAM_KEY.unpack(key)[0]
            records.append(EVENT.pack(*idle_datagrams(cookie, flow, now)))
            pair = _pair(flow)
            self.swept[pair] = self.swept.get(pair, 0) + 1
        if records:
            self.history.add(b"".join(records), self.names, _clock_offset())

    def losses(self) -> dict[str, int]:
        """What the kernel could not record, by kind."""
        return {
            name: self._losses.get_percpu(index.to_bytes(4, "little"))
            for index, name in enumerate(LOSSES)
        }

    def close(self) -> None:
        self._ring.close()


def _pair(flow: DatagramFlow) -> Pair:
    return Pair(
        source=flow.source,
        destination=flow.destination,
        service=flow.service,
        rule=flow.rule if flow.reason == Reason.WOULD_DENY else 0,
        port=layout.port_number(flow.dialled_port),
        protocol=flow.protocol,
        direction=flow.direction,
        verdict=flow.verdict,
        reason=flow.reason,
        path=flow.path,
    )


def _clock_offset() -> int:
    return time.time_ns() - time.monotonic_ns()
