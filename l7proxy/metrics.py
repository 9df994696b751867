"""Our own metrics, collected when they are asked for from what the parts say about themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric


@dataclass(frozen=True)
class Reading:
    """One metric's value now. Counters end in ``_total``."""

    name: str
    text: str
    value: float


class Metrics:
    """Prometheus text of ``hoplite_l7proxy_*``."""

    def __init__(self, read: Callable[[], Iterator[Reading]]) -> None:
        self._read = read
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """What prometheus-client asks a collector for."""
        for reading in self._read():
            name = f"hoplite_l7proxy_{reading.name}"
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            yield family(name, reading.text, value=reading.value)

    def text(self) -> bytes:
        return generate_latest(self._registry)
