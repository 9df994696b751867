"""Identities in SYNs against none: CPU of both ends for a connection between two nodes.

Two labs side by side, the agents of one with ``identityTags: false``, take turns. nginx answers one
request a connection, wrk asks from a CPU of its own.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable

from bench.direct_path import CpuPerOperation, connections
from bench.labs import NGINX, script
from bench.pairs import compare
from bench.table import Row, ratio_row
from lab import api
from lab.patience import wait
from lab.restart import kill, start_agent
from meshapi.flow import FlowQuery

NAMES = ("bench-tags-off", "bench-tags-on")
PAIRS = 21
GOAL = 1.02
PATIENCE = 30.0

SERVER_SCRIPT = NGINX.replace("listen $PORT", "listen [::]:$PORT ipv6only=off")

LAB = f"""
apiVersion: lab.hoplite.io/v1alpha1
kind: Lab
spec:
  nodes:
  - name: node1
    workloads:
    - {{name: client, namespace: bench, labels: {{app: client}}}}
  - name: node2
    workloads:
    - name: server
      namespace: bench
      labels: {{app: server}}
      ports: [{{name: http, port: 8080}}]
      env: {{PORT: "8080", ANSWER: ok}}
      command:
      - sh
      - -c
      - |
{script(SERVER_SCRIPT, 8)}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: server, namespace: bench}}
spec:
  podSelector: {{matchLabels: {{app: server}}}}
  ingress: [{{from: [{{podSelector: {{matchLabels: {{app: client}}}}}}]}}]
"""
CLIENT, SERVER = "node1/bench/client", "node2/bench/server"


def run() -> tuple[str, list[Row]]:
    """Start the labs, measure, remove them."""
    try:
        without, with_ = (api.start(LAB, name=name, source="bench") for name in NAMES)
        for node in without.record.plan.nodes:
            _restart_without_tags(without, node.name)
        rows = [
            _row(without, with_, version, family) for family, version in enumerate(("IPv4", "IPv6"))
        ]
        return "Identities in SYNs, CPU per connection of both ends, against none", rows
    finally:
        for name in NAMES:
            api.stop(name)


def _row(without: api.Lab, with_: api.Lab, version: str, family: int) -> Row:
    for lab, tagged in ((without, False), (with_, True)):
        _until(lab, family, tagged=tagged)
    ratio = compare(_measure(without, family), _measure(with_, family), PAIRS)
    return ratio_row(f"connect + close (HTTP), across nodes, {version}", ratio, GOAL, "µs")


def _measure(lab: api.Lab, family: int) -> Callable[[], float]:
    """Microseconds of CPU of client and server per connection."""
    bench = CpuPerOperation(lab, (CLIENT, SERVER), connections)
    return bench.at(lab.workload(SERVER).addresses[family])


def _until(lab: api.Lab, family: int, *, tagged: bool) -> None:
    """Wait until connections carry identities, or do not, as is meant."""

    def so() -> bool:
        connections(lab, lab.workload(SERVER).addresses[family], 1)
        time.sleep(0.5)
        return asyncio.run(_newest_is_tagged(lab)) == tagged

    wait(so, f"connections of {lab.name} do not become what is to be measured", PATIENCE)


async def _newest_is_tagged(lab: api.Lab) -> bool:
    query = FlowQuery(source="bench/client", direction="inbound", last=1)
    async with lab.endpoint.client() as client:
        flows = [reply.flow async for reply in client.flows(query) if reply.flow is not None]
    return bool(flows) and flows[-1].authenticated


def _restart_without_tags(lab: api.Lab, node: str) -> None:
    kill(lab, node, "hoplite-agent", how=signal.SIGTERM)
    start_agent(lab, node, HOPLITE_AGENT_IDENTITY_TAGS="false")
