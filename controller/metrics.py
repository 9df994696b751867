"""The controller's own metrics, in a registry of their own (nothing global)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from controller.reports import Reports
from controller.state import State
from meshapi.resources import MeshNode

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """Counters that the parts of the controller bump, and a page of them all."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "hoplite_controller_requests",
            "API requests answered",
            ("verb", "kind", "code"),
            registry=self._registry,
        )
        self.request_seconds = Histogram(
            "hoplite_controller_request_duration_seconds",
            "Time to answer, streams left out",
            ("verb", "kind"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.commit_seconds = Histogram(
            "hoplite_controller_store_commit_duration_seconds",
            "Time until a transaction was on disk",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.certificates = Counter(
            "hoplite_controller_certificates_issued",
            "Certificates issued",
            ("component",),
            registry=self._registry,
        )

    def watch(self, gauges: Gauges) -> None:
        """Let the page include what is read off the running parts at each scrape."""
        self._registry.register(gauges)

    def page(self) -> bytes:
        return generate_latest(self._registry)


@dataclass(frozen=True, eq=False)
class Gauges(Collector):
    """Everything that is a look at the present: objects, nodes, open streams."""

    state: Callable[[], State]
    reports: Reports
    streams: Callable[[], dict[str, int]]

    def collect(self) -> Iterable[Metric]:
        state = self.state()
        yield GaugeMetricFamily(
            "hoplite_controller_revision", "Revision of the store", value=state.revision
        )
        yield _family(
            "hoplite_controller_objects",
            "Objects by kind",
            "kind",
            {kind: len(objects) for kind, objects in state.kinds.items()},
        )
        yield _family(
            "hoplite_controller_streams",
            "Open streams by purpose: feed, watch, channel, flows, enforcement",
            "purpose",
            self.streams(),
        )
        names = [node.metadata.name for node in state.of(MeshNode).values()]
        statuses = self.reports.statuses(names, time.monotonic())
        yield _family(
            "hoplite_controller_node_ready",
            "1 if the node is heard of and ready",
            "node",
            {node: int(status.ready) for node, status in statuses.items()},
        )
        yield _family(
            "hoplite_controller_node_revision_lag",
            "Revisions that the node has yet to put into force",
            "node",
            {n: max(0, state.revision - s.applied_revision) for n, s in statuses.items()},
        )


def _family(name: str, text: str, label: str, values: dict[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in sorted(values.items()):
        family.add_metric([key], value)
    return family
