"""The direct path against no mesh at all: CPU of both ends per operation, programs on and off.

One lab, its BPF programs attached or detached between segments. With the mesh the client dials the
service's virtual address, without it the server's own. qperf and nginx with wrk do the traffic;
client and server have a CPU each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bench.labs import NGINX, script, virtual_address
from bench.pairs import compare
from bench.programs import Programs
from bench.table import Row, ratio_row
from lab import api, names
from meshapi.errors import HopliteError

NAME = "bench-direct"
PAIRS = 11
SECONDS = 2

LAB = f"""
apiVersion: lab.hoplite.io/v1alpha1
kind: Lab
spec:
  nodes:
  - name: node1
    workloads:
    - {{name: client, namespace: bench, labels: {{app: client}}}}
    - &server
      name: server
      namespace: bench
      labels: {{app: near}}
      ports: [{{name: control, port: 19765}}, {{name: http, port: 8080}}]
      env: {{PORT: "8080", ANSWER: ok}}
      command:
      - sh
      - -c
      - |
        taskset -c 1 qperf &
{script(NGINX, 8)}
  - name: node2
    workloads:
    - {{<<: *server, labels: {{app: far}}}}
"""

MESH = """
---
apiVersion: v1
kind: Service
metadata: {name: near, namespace: bench}
spec:
  selector: {app: near}
  ports: [{name: control, port: 19765}, {name: data, port: 19766}, {name: http, port: 8080},
          {name: datagrams, port: 19766, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: far, namespace: bench}
spec:
  selector: {app: far}
  ports: [{name: control, port: 19765}, {name: data, port: 19766}, {name: http, port: 8080},
          {name: datagrams, port: 19766, protocol: UDP}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: servers, namespace: bench}
spec:
  podSelector: {matchExpressions: [{key: app, operator: In, values: [near, far]}]}
  ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]
"""

CLIENT = "node1/bench/client"


def run() -> tuple[str, list[Row]]:
    """Start the lab, measure, remove it."""
    lab = api.start(LAB + MESH, name=NAME, source="bench")
    try:
        return "Direct path, CPU per operation of both ends, against no mesh", _measure(lab)
    finally:
        api.stop(NAME)


def _measure(lab: api.Lab) -> list[Row]:
    programs = Programs(lab, names.LabNames(NAME).pins)
    rows = []
    for where, node in (("same node", "node1"), ("across nodes", "node2")):
        server = f"{node}/bench/server"
        address = lab.workload(server).addresses[0]
        virtual = virtual_address(lab, "bench", "near" if node == "node1" else "far")
        for what, goal, unit, segment in (
            ("request/response", 1.04, "µs", _request_response),
            ("connect + close (HTTP)", 1.13, "µs", connections),
            ("bulk", 1.02, "ms/GB", _bulk),
            ("UDP request/response", 1.06, "µs", _datagrams),
        ):
            bench = CpuPerOperation(lab, (CLIENT, server), segment)
            ratio = compare(
                bench.at(address, programs.detach), bench.at(virtual, programs.attach), PAIRS
            )
            rows.append(ratio_row(f"{what}, {where}", ratio, goal, unit))
    return rows


class CpuPerOperation:
    """CPU time that workloads (client and server) use for a segment of traffic, per operation.

    ``segment`` makes the traffic to an address and says how many operations it was.
    """

    def __init__(
        self, lab: api.Lab, targets: Iterable[str], segment: Callable[[api.Lab, str], float]
    ) -> None:
        self._lab = lab
        self._segment = segment
        workloads = map(lab.workload, targets)
        self._cgroups = [lab.cgroup(w.node, w.cgroup) for w in workloads]

    def at(self, address: str, before: Callable[[], None] = lambda: None) -> Callable[[], float]:
        """A measurement against ``address`` after ``before`` has been called."""

        def measure() -> float:
            before()
            started = self._cpu()
            operations = self._segment(self._lab, address)
            return (self._cpu() - started) / operations

        return measure

    def _cpu(self) -> float:
        """Microseconds of CPU that both ends have used so far."""
        total = 0.0
        for cgroup in self._cgroups:
            line = (cgroup / "cpu.stat").read_text().splitlines()[0]
            total += float(line.split()[1])
        return total


def _request_response(lab: api.Lab, address: str) -> float:
    """1-byte requests and answers over one connection; how many."""
    return _round_trips(lab, address, "tcp_lat")


def _datagrams(lab: api.Lab, address: str) -> float:
    """The same with datagrams of one connected socket."""
    return _round_trips(lab, address, "udp_lat")


def _round_trips(lab: api.Lab, address: str, test: str) -> float:
    fields = _client(lab, ["qperf", "-ip", "19766", "-t", str(SECONDS), address, test])
    latency = _number(fields) * {"ns": 1e-9, "us": 1e-6, "ms": 1e-3}[_unit(fields)]
    return SECONDS / latency / 2


def _bulk(lab: api.Lab, address: str) -> float:
    """One stream of 64 KiB writes; thousandths of gigabytes, so that CPU µs come out as ms/GB."""
    fields = _client(lab, ["qperf", "-ip", "19766", "-t", str(SECONDS), address, "tcp_bw"])
    rate = _number(fields) * {"KB/sec": 1e-6, "MB/sec": 1e-3, "GB/sec": 1}[_unit(fields)]
    return rate * SECONDS * 1000


def connections(lab: api.Lab, address: str, seconds: int = SECONDS) -> float:
    """A new connection for each HTTP request, eight at a time; how many."""
    host = f"[{address}]" if ":" in address else address
    url = f"http://{host}:8080/"
    command = ["wrk", "-t1", "-c8", f"-d{seconds}s", "-H", "Connection: close", url]
    fields = _client(lab, command)
    return float(fields[fields.index("requests") - 1])


def _client(lab: api.Lab, command: list[str]) -> list[str]:
    done = lab.exec(CLIENT, ["taskset", "-c", "0", *command])
    if done.returncode:
        raise HopliteError(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-200:]}")
    return done.stdout.split()


def _number(fields: list[str]) -> float:
    return float(fields[fields.index("=") + 1])


def _unit(fields: list[str]) -> str:
    return fields[fields.index("=") + 2]
