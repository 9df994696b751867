"""Prometheus metrics: the kernel's own counters, read when asked, and the agent's own."""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector as PrometheusCollector

from meshapi import verdict
from meshapi.flow import PROTOCOLS
from meshapi.resources import Key
from meshapi.verdict import Direction, Reason, Verdict
from nodeagent.datapath.libbpf import KernelMap
from nodeagent.layout import COUNTERS, PAIR, Counters, Pair
from nodeagent.state import NodeState
from nodeagent.telemetry.collect import Collector
from nodeagent.telemetry.names import Names

Metric = CounterMetricFamily | GaugeMetricFamily

_LABELS = (
    "source_namespace",
    "source_identity",
    "destination_namespace",
    "destination_identity",
    "destination_service",
    "destination_port",
    "protocol",
    "direction",
    "verdict",
    "reason",
    "policy",
    "rule",
    "path",
)


@dataclass
class Gauges:
    """The agent's own numbers, written by whoever knows them."""

    revision: int = 0
    applied: int = 0
    apply_seconds: float = 0.0
    connected: bool = False
    entries: dict[str, int] = field(default_factory=dict)


class AgentMetrics(PrometheusCollector):
    """Reads the aggregate in the kernel on every scrape; there is no second set of counters."""

    def __init__(
        self,
        pairs: KernelMap,
        collector: Collector,
        gauges: Gauges,
        cut: Mapping[tuple[Key, str], int],
    ) -> None:
        self._pairs = pairs
        self._cut = cut
        self._collector = collector
        self._gauges = gauges
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def include(self, more: PrometheusCollector) -> None:
        """Render the metrics of another part of the agent as well."""
        self._registry.register(more)

    def render(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._pair_metrics()
        yield from self._own_metrics()

    def _pair_metrics(self) -> Iterator[Metric]:
        connections = CounterMetricFamily(
            "hoplite_connections",
            "Connections by what became of them.",
            labels=(*_LABELS, "event"),
        )
        size = CounterMetricFamily(
            "hoplite_bytes", "Payload bytes as seen by the local end.", labels=(*_LABELS, "flow")
        )
        retransmits = CounterMetricFamily(
            "hoplite_tcp_retransmits", "TCP segments sent again.", labels=_LABELS
        )
        refused = CounterMetricFamily(
            "hoplite_refused_packets", "Packets dropped by policy.", labels=_LABELS
        )
        names = self._collector.names or Names(NodeState(""), {}, {}, {})
        for key, value in self._pairs.items():
            pair = Pair(*PAIR.unpack(key))
            counters = Counters(*COUNTERS.unpack(value))
            labels = _labels(pair, names)
            closed = counters.closed + self._collector.swept.get(pair, 0)
            for event, number in (
                ("opened", counters.opened),
                ("closed", closed),
                ("failed", counters.failed),
                ("denied", counters.denied),
            ):
                if number:
                    connections.add_metric([*labels, event], number)
            size.add_metric([*labels, "sent"], counters.sent)
            size.add_metric([*labels, "received"], counters.received)
            if counters.retransmits:
                retransmits.add_metric(labels, counters.retransmits)
            if counters.refused_packets:
                refused.add_metric(labels, counters.refused_packets)
        yield from (connections, size, retransmits, refused)
        ended = CounterMetricFamily(
            "hoplite_connections_cut",
            "Open connections that a change of policy ended.",
            labels=("policy_kind", "policy"),
        )
        by_name: Counter[Key] = Counter()
        for (policy, _uid), number in self._cut.items():
            by_name[policy] += number
        for policy, number in by_name.items():
            name = f"{policy.namespace}/{policy.name}".lstrip("/")
            ended.add_metric([policy.kind, name], number)
        yield ended

    def _own_metrics(self) -> Iterator[Metric]:
        history, gauges = self._collector.history, self._gauges
        lost = CounterMetricFamily(
            "hoplite_agent_lost", "What the kernel could not record, by kind.", labels=("kind",)
        )
        for kind, number in self._collector.losses().items():
            lost.add_metric([kind], number)
        yield lost
        yield _counter("hoplite_agent_flows", "Flow records read.", history.total)
        yield _counter("hoplite_agent_flows_evicted", "Flows out of history.", history.evicted)
        yield _gauge("hoplite_agent_revision", "Newest revision received.", gauges.revision)
        yield _gauge("hoplite_agent_applied_revision", "Revision in force.", gauges.applied)
        yield _gauge("hoplite_agent_apply_seconds", "Last change of maps.", gauges.apply_seconds)
        yield _gauge("hoplite_agent_connected", "1 while the feed is up.", int(gauges.connected))
        yield _gauge("hoplite_agent_resident_bytes", "Memory of the agent.", resident_bytes())
        entries = GaugeMetricFamily(
            "hoplite_agent_map_entries", "Entries of each kernel map.", labels=("map",)
        )
        for name, number in gauges.entries.items():
            entries.add_metric([name], number)
        yield entries


def resident_bytes() -> int:
    """This process's resident memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * mmap.PAGESIZE


def _labels(pair: Pair, names: Names) -> list[str]:
    source, destination = _identity(pair.source, names), _identity(pair.destination, names)
    service = names.services.get(pair.service)
    rule = names.rules.get(pair.rule)
    inbound = pair.direction == Direction.INBOUND
    return [
        *source,
        *destination,
        f"{service[0]}/{service[1]}" if service else "",
        str(pair.port),
        PROTOCOLS.get(pair.protocol, str(pair.protocol)),
        "inbound" if inbound else "outbound",
        Verdict(pair.verdict).name,
        Reason(pair.reason).name,
        rule.policy if rule else "",
        rule.text if rule else "",
        verdict.Path(pair.path).name.lower(),
    ]


def _identity(number: int, names: Names) -> tuple[str, str]:
    end = names.remote(number, bytes(16), 0)
    return end.namespace, end.spiffe_id or end.name or end.kind


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
