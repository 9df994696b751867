"""The agent: memory, start with and without a compiler, and what a node without layer 7 runs."""

from __future__ import annotations

import signal
import statistics
import sys
import time
from pathlib import Path

from bench.labs import virtual_address
from bench.table import Row
from lab import api
from lab.restart import kill, remove_pins, start_agent
from meshapi.errors import HopliteError

NAME = "bench-agent"
STARTS = 7

LAB = """
apiVersion: lab.hoplite.io/v1alpha1
kind: Lab
spec:
  nodes:
  - name: node1
    workloads:
    - {name: client, namespace: bench, labels: {app: client}}
    - name: server
      namespace: bench
      labels: {app: server}
      ports: [{name: redis, port: 6379}]
      command: [redis-server, --bind, 0.0.0.0, --protected-mode, "no", --save, ""]
---
apiVersion: v1
kind: Service
metadata: {name: server, namespace: bench}
spec: {selector: {app: server}, ports: [{name: redis, port: 6379}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server, namespace: bench}
spec: {podSelector: {matchLabels: {app: server}}, ingress: [{}]}
"""

# 100,000 connections to a port that the service does not have: refused, and each a flow record.
REFUSED = """
import socket, sys
for _ in range(100_000):
    with socket.socket() as refused:
        try:
            refused.connect((sys.argv[1], 1))
        except ConnectionRefusedError:
            continue
        sys.exit("connected")
"""


def run() -> tuple[str, list[Row]]:
    """Start the lab, measure, remove it."""
    lab = api.start(LAB, name=NAME, source="bench")
    try:
        return "Agent", _Agent(lab).measure()
    finally:
        api.stop(NAME)


class _Agent:
    """The one agent of the lab, restarted at will with its own configuration."""

    def __init__(self, lab: api.Lab) -> None:
        self._lab = lab
        self._cgroup = lab.cgroup("node1", "hoplite-agent")

    def measure(self) -> list[Row]:
        self._traffic()
        memory = self._resident()
        maps = Path(f"/proc/{self._pid()}/maps").read_text()
        compiler = any(word in maps for word in ("libclang", "libLLVM", "libbcc"))
        envoys = sum("envoy" in line for line in self._node_commands())
        warm = [self._restart(cold=False) for _ in range(STARTS)]
        cold = [self._restart(cold=True) for _ in range(STARTS)]
        return [
            Row("resident memory", f"{memory:.1f} MB", "≤ 60 MB", memory <= 60),
            Row("compiler in the running agent", "yes" if compiler else "no", "no", not compiler),
            Row(
                "start, programs pinned",
                f"{statistics.median(warm):.2f} s",
                "≤ 0.5 s",
                statistics.median(warm) <= 0.5,
                f"{min(warm):.2f} to {max(warm):.2f}, process start to ready, {STARTS} starts",
            ),
            Row(
                "start, nothing pinned",
                f"{statistics.median(cold):.2f} s",
                "≤ 3 s",
                statistics.median(cold) <= 3,
                f"{min(cold):.2f} to {max(cold):.2f}, compile included, {STARTS} starts",
            ),
            Row("Envoys on a node without layer 7", str(envoys), "0", envoys == 0),
        ]

    def _traffic(self) -> None:
        """Fill flow history and ring buffer: memory is to be that of an agent that has worked."""
        for words in (
            ["redis-benchmark", "-h", self._server(), "-n", "5000", "-k", "0", "-t", "ping", "-q"],
            [sys.executable, "-c", REFUSED, virtual_address(self._lab, "bench", "server")],
        ):
            done = self._lab.exec("node1/bench/client", words)
            if done.returncode:
                raise HopliteError(f"{words[0]} failed: {done.stderr.strip()[-200:]}")
        time.sleep(1)

    def _server(self) -> str:
        return self._lab.workload("node1/bench/server").addresses[0]

    def _restart(self, *, cold: bool) -> float:
        """Seconds from the start of the process until the stored state is in force."""
        kill(self._lab, "node1", "hoplite-agent", how=signal.SIGTERM)
        if cold:
            remove_pins(self._lab, "node1")
        started = time.monotonic()
        start_agent(self._lab, "node1")
        return time.monotonic() - started

    def _pid(self) -> int:
        return int((self._cgroup / "cgroup.procs").read_text().split()[0])

    def _resident(self) -> float:
        status = Path(f"/proc/{self._pid()}/status").read_text()
        line = next(part for part in status.splitlines() if part.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    def _node_commands(self) -> list[str]:
        procs = self._lab.cgroup("node1").rglob("cgroup.procs")
        pids = [pid for path in procs for pid in path.read_text().split()]
        return [Path(f"/proc/{pid}/cmdline").read_text() for pid in pids]
