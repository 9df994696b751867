"""Identities in SYNs against none: CPU of both ends for a connection between two nodes.

Two labs side by side, the agents of one with ``identityTags: false``, take turns. nginx answers one
request a connection, wrk asks from a CPU of its own.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable

from bench.labs import NGINX, script
from bench.pairs import compare
from bench.table import Row, ratio_row
from lab import api
from lab.restart import kill, start_agent
from meshapi.errors import HopliteError
from meshapi.flow import FlowQuery

NAMES = ("bench-tags-off", "bench-tags-on")
PAIRS = 21
SECONDS = 2
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
    cgroups = [lab.cgroup(w.node, w.cgroup) for w in map(lab.workload, (CLIENT, SERVER))]

    def used() -> float:
        lines = ((cgroup / "cpu.stat").read_text().splitlines()[0] for cgroup in cgroups)
        return sum(float(line.split()[1]) for line in lines)

    def measure() -> float:
        before = used()
        count = _connections(lab, family, SECONDS)
        return (used() - before) / count

    return measure


def _connections(lab: api.Lab, family: int, seconds: int) -> float:
    """A new connection for each request, eight at a time; how many."""
    address = lab.workload(SERVER).addresses[family]
    host = f"[{address}]" if ":" in address else address
    words = ["-t1", "-c8", f"-d{seconds}s", "-H", "Connection: close", f"http://{host}:8080/"]
    done = lab.exec(CLIENT, ["taskset", "-c", "0", "wrk", *words])
    if done.returncode:
        raise HopliteError(f"wrk failed: {(done.stderr or done.stdout).strip()[-200:]}")
    fields = done.stdout.split()
    return float(fields[fields.index("requests") - 1])


def _until(lab: api.Lab, family: int, *, tagged: bool) -> None:
    """Wait until connections carry identities, or do not, as is meant."""
    deadline = time.monotonic() + PATIENCE
    while True:
        _connections(lab, family, 1)
        time.sleep(0.5)
        if asyncio.run(_newest_is_tagged(lab)) == tagged:
            return
        if time.monotonic() > deadline:
            raise HopliteError(f"connections of {lab.name} do not become what is to be measured")


async def _newest_is_tagged(lab: api.Lab) -> bool:
    query = FlowQuery(source="bench/client", direction="inbound", last=1)
    async with lab.endpoint.client() as client:
        flows = [reply.flow async for reply in client.flows(query) if reply.flow is not None]
    return bool(flows) and flows[-1].authenticated


def _restart_without_tags(lab: api.Lab, node: str) -> None:
    kill(lab, node, "hoplite-agent", how=signal.SIGTERM)
    start_agent(lab, node, HOPLITE_AGENT_IDENTITY_TAGS="false")
