"""How many queries came to what, and how long forwarding took; as Prometheus metrics too."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from nodeagent.dns.decide import KINDS, Kind

_BOUNDS = (0.001, 0.005, 0.025, 0.1, 0.5, 1.5, 5.0)  # seconds


@dataclass(eq=False)  # a registry keeps it in a set
class Counters(Collector):
    """Written by the server alone."""

    queries: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    buckets: list[int] = field(default_factory=lambda: [0] * (len(_BOUNDS) + 1))
    seconds: float = 0.0

    def forwarded(self, seconds: float) -> None:
        """An upstream answered after so long."""
        self.buckets[bisect_left(_BOUNDS, seconds)] += 1
        self.seconds += seconds

    def describe(self) -> list[CounterMetricFamily]:
        return []

    def collect(self) -> Iterator[CounterMetricFamily | HistogramMetricFamily]:
        queries = CounterMetricFamily(
            "hoplite_dns_queries", "DNS queries by what they came to.", labels=("answer",)
        )
        for kind, number in self.queries.items():
            queries.add_metric([kind], number)
        yield queries
        names = [*map(str, _BOUNDS), "+Inf"]
        yield HistogramMetricFamily(
            "hoplite_dns_forward_seconds",
            "Time until an upstream had answered.",
            buckets=list(zip(names, accumulate(self.buckets), strict=True)),
            sum_value=self.seconds,
        )
