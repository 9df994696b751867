"""Backends that the kernel leaves out at present: read from its map once a second, and named."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from meshapi.resources import Ejection
from nodeagent.datapath.libbpf import KernelMap
from nodeagent.desired.backends import Listed, listed
from nodeagent.desired.compiler import Compiler
from nodeagent.layout import OUTLIER, Outlier
from nodeagent.state import Name

_LOOK_SECONDS = 1.0
_MOST_REPORTED = 100


class OutlierWatch(Collector):
    """The kernel decides by itself; this only looks. ``on_change`` hears that others are out."""

    def __init__(
        self,
        outliers: KernelMap,
        compiler: Callable[[], Compiler],
        on_change: Callable[[], None],
    ) -> None:
        self._outliers = outliers
        self._compiler = compiler
        self._on_change = on_change
        self.ejections: tuple[Ejection, ...] = ()

    async def run(self) -> None:
        """Look for ever."""
        while True:
            found = tuple(self._named(self.out()))[:_MOST_REPORTED]
            if found != self.ejections:
                self.ejections = found
                self._on_change()
            await asyncio.sleep(_LOOK_SECONDS)

    def out(self) -> dict[int, Outlier]:
        """What is out now, by the number of the backend."""
        now = time.monotonic_ns()
        found = {}
        for key, value in self._outliers.items():
            outlier = Outlier(*OUTLIER.unpack(value))
            if outlier.until > now:
                found[int.from_bytes(key, "little")] = outlier
        return found

    def backends(self) -> Iterator[dict[str, object]]:
        """Every backend of every service, for the admin API."""
        compiler, out = self._compiler(), self.out()
        for name in sorted(compiler.state.services):
            for one in listed(compiler.state, compiler.facts, name):
                outlier = out.get(one.number)
                yield {
                    "service": "/".join(one.service),
                    "port": one.port,
                    "protocol": one.protocol,
                    "workload": "/".join(one.workload),
                    "address": one.address,
                    "weight": one.backend.workload.spec.weight,
                    "use": one.use,
                    "ejectedUntil": _time(outlier.until) if outlier else None,
                    "ejectedFor": (outlier.who or "everybody") if outlier else None,
                }

    # -- metrics ---------------------------------------------------------------------------------

    def describe(self) -> list[GaugeMetricFamily]:
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        ejected = GaugeMetricFamily(
            "hoplite_backend_ejected",
            "1 for each backend that is left out because connections to it failed.",
            labels=("namespace", "service", "port", "workload", "address"),
        )
        for one in self._named(self.out()):
            labels = [one.namespace, one.service, str(one.port), one.workload, one.address]
            ejected.add_metric(labels, 1)
        yield ejected

    # -- names -----------------------------------------------------------------------------------

    def _named(self, out: dict[int, Outlier]) -> Iterator[Ejection]:
        """In a stable order; what the newest state does not know any more is left out."""
        compiler = self._compiler()
        services: set[Name] = set()
        for outlier in out.values():
            known = compiler.services.get(outlier.service)
            if known is not None:
                services.add(known[:2])
        for name in sorted(services):
            for one in listed(compiler.state, compiler.facts, name):
                if one.number in out:
                    yield _ejection(one, out[one.number])


def _ejection(one: Listed, outlier: Outlier) -> Ejection:
    return Ejection(
        namespace=one.service[0],
        service=one.service[1],
        port=one.port,
        workload=one.workload[1],
        address=one.address,
        until=_time(outlier.until),
        identity=outlier.who,
    )


# Taken once, so that a moment has one name however often it is told.
_OFFSET = time.time_ns() - time.monotonic_ns()


def _time(monotonic: int) -> str:
    moment = dt.datetime.fromtimestamp((monotonic + _OFFSET) // 1_000_000_000, dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
