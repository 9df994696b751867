"""What health checks came to, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from nodeagent.health.prober import Prober

_LABELS = ("namespace", "workload", "port")


class HealthMetrics(Collector):
    """Of this node's own workloads; other nodes' backends are their nodes' business."""

    def __init__(self, prober: Prober) -> None:
        self._prober = prober

    def describe(self) -> list[CounterMetricFamily | GaugeMetricFamily]:
        return []

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        checks = CounterMetricFamily(
            "hoplite_health_checks", "Health checks by result.", labels=(*_LABELS, "result")
        )
        healthy = GaugeMetricFamily(
            "hoplite_backend_healthy", "1 while a checked port is healthy.", labels=_LABELS
        )
        ports: dict[tuple[str, str, int], bool] = {}
        for asked in self._prober:
            target = asked.wanted.target
            for result, number in asked.results.items():
                checks.add_metric([*target.workload, str(target.port), result], number)
            for port in asked.wanted.ports:
                key = (*target.workload, port)
                ports[key] = ports.get(key, True) and asked.health.healthy
        for (namespace, workload, port), well in sorted(ports.items()):
            healthy.add_metric([namespace, workload, str(port)], int(well))
        yield checks
        yield healthy
