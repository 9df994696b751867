"""What traffic notices when parts of the mesh die, are upgraded or come back: it should be nothing.

While each event happens, an allowed client opens connections, sends datagrams and uses connections
that it holds open, and a refused one tries the same, all through services on both nodes, over IPv4
and IPv6. What fails of the first and what succeeds of the second is counted. So is what succeeds of
a refused workload whose cgroup is made anew, and of one that got the address of an allowed one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from bench.labs import script, virtual_addresses
from bench.table import Row
from lab import api
from lab.account import ROOT
from lab.api import Target
from lab.processes import launcher
from lab.restart import kill, later_release, start_agent
from lab.succession import paused, succeed
from meshapi.errors import HopliteError

NAME = "bench-survival"
NODES = ("node1", "node2")
DOWN_SECONDS = 60  # how long "for long" is
RESTARTS = 10  # of a cgroup, for each way to a server
RESTLESS, FORMER = "node1/bench/restless", "node1/bench/former"

# Echoes what comes, over TCP and UDP, both families.
ECHO = """\
import socket, threading
def serve(connection):
    with connection:
        while data := connection.recv(65536):
            connection.sendall(data)
def datagrams():
    endpoint = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    endpoint.bind(("::", 7001))
    while True:
        endpoint.sendto(*endpoint.recvfrom(65536))
threading.Thread(target=datagrams, daemon=True).start()
listener = socket.create_server(("::", 7000), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""

LAB = f"""
apiVersion: lab.hoplite.io/v1alpha1
kind: Lab
spec:
  nodes:
  - name: node1
    workloads:
    - {{name: client, namespace: bench, labels: {{app: client}}}}
    - {{name: outsider, namespace: bench, labels: {{app: outsider}}}}
    - {{name: restless, namespace: bench, labels: {{app: outsider}}}}
    - {{name: former, namespace: bench, labels: {{app: client}}}}
    - &server
      name: server
      namespace: bench
      labels: {{app: near}}
      ports: [{{name: tcp, port: 7000}}, {{name: udp, port: 7001, protocol: UDP}}]
      command:
      - python3
      - -c
      - |
{script(ECHO, 8)}
  - name: node2
    workloads:
    - {{<<: *server, labels: {{app: far}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: near, namespace: bench}}
spec:
  selector: {{app: near}}
  ports: [{{name: tcp, port: 80, targetPort: 7000}},
          {{name: udp, port: 53, targetPort: 7001, protocol: UDP}}]
---
apiVersion: v1
kind: Service
metadata: {{name: far, namespace: bench}}
spec:
  selector: {{app: far}}
  ports: [{{name: tcp, port: 80, targetPort: 7000}},
          {{name: udp, port: 53, targetPort: 7001, protocol: UDP}}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: servers, namespace: bench}}
spec:
  podSelector: {{matchExpressions: [{{key: app, operator: In, values: [near, far]}}]}}
  ingress: [{{from: [{{podSelector: {{matchLabels: {{app: client}}}}}}]}}]
"""

# What the programs below have in common.
TRY = """
import collections, json, os, select, socket, sys
seen = collections.Counter()
STREAM, DATAGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM
def echo(connection, what):
    try:
        connection.sendall(b"x")
        seen[what + (" ok" if connection.recv(9) == b"x" else " ended")] += 1
    except TimeoutError:
        seen[what + " no answer"] += 1
    except OSError as error:
        seen[f"{what} failed: {error.strerror}"] += 1
def connected(address, kind, port):
    connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    connection.settimeout(2)
    try:
        connection.connect((address, port))
    except OSError as error:
        connection.close()
        seen[f"{'TCP' if kind == STREAM else 'UDP'} refused: {error.strerror}"] += 1
        return None
    return connection
def once(address, kind, port):
    connection = connected(address, kind, port)
    if connection is not None:
        with connection:
            echo(connection, "TCP" if kind == STREAM else "UDP")
"""

# Until its standard input ends: connect, send a datagram, use what is held; each to every address.
WATCH = f"""{TRY}
hold = sys.argv[1] == "hold"
addresses = sys.argv[2:]
held = [(c, "held TCP") for a in addresses if hold and (c := connected(a, STREAM, 80))]
held += [(c, "held UDP") for a in addresses if hold and (c := connected(a, DATAGRAM, 53))]
print("watching", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    for address in addresses:
        once(address, STREAM, 80)
        once(address, DATAGRAM, 53)
    for connection, what in held:
        echo(connection, what)
print(json.dumps(seen))
"""

# Again and again: leave the cgroup, make it anew, enter it, and at once try one thing.
RESTART = f"""{TRY}
cgroup, elsewhere, times, *addresses = sys.argv[1:]
def enter(path):
    with open(path + "/cgroup.procs", "w") as procs:
        procs.write("0")
for _ in range(int(times)):
    for address in addresses:
        for kind, port in ((STREAM, 7000), (DATAGRAM, 7001)):
            enter(elsewhere)
            os.rmdir(cgroup)
            os.mkdir(cgroup)
            enter(cgroup)
            once(address, kind, port)
print(json.dumps(seen))
"""


def run() -> tuple[str, list[Row]]:
    """Start the lab, let things happen, remove it."""
    lab = api.start(LAB, name=NAME, source="bench")
    try:
        with tempfile.TemporaryDirectory(prefix="hoplite-bench-") as folder:
            later = later_release(Path(folder) / "later")
            rows = [_row(lab, what, event) for what, event in _events(later)]
        return "Survival: what an allowed and a refused client see", rows
    finally:
        api.stop(NAME)


# Makes something happen; what it has seen of refused workloads itself counts as well.
Event = Callable[[api.Lab], Counter[str] | None]


def _events(later: Path) -> list[tuple[str, Event]]:
    return [
        ("agents killed, started again 2 s later", _agents_crash),
        ("programs exchanged (another map size)", _programs_change),
        ("upgrade that changes the layout of maps", _upgrade(later)),
        ("downgrade to the layout of before", _upgrade(ROOT)),
        (f"agents away for {DOWN_SECONDS} s", _agents_stay_away),
        ("a refused workload's cgroup made anew", _cgroup_made_anew),
        ("an allowed workload's address reused", _address_reused),
        ("node proxies killed", _proxies_die),
        ("controller killed", _controller_dies),
    ]


def _agents_crash(lab: api.Lab) -> None:
    for node in NODES:
        kill(lab, node, "hoplite-agent")
        time.sleep(2)
        start_agent(lab, node)


def _programs_change(lab: api.Lab) -> None:
    """Another map size: every program is another one."""
    for node in NODES:
        config = lab.agent_socket(node).parent.parent / "config.yaml"
        config.write_text(config.read_text() + "\nmapSizes: {refused: 512}\n", encoding="utf-8")
        kill(lab, node, "hoplite-agent")
        start_agent(lab, node)


def _upgrade(release: Path) -> Event:
    def upgrade(lab: api.Lab) -> None:
        for node in NODES:
            kill(lab, node, "hoplite-agent")
            start_agent(lab, node, release)

    return upgrade


def _agents_stay_away(lab: api.Lab) -> None:
    for node in NODES:
        kill(lab, node, "hoplite-agent")
    time.sleep(DOWN_SECONDS)
    for node in NODES:
        start_agent(lab, node)


def _cgroup_made_anew(lab: api.Lab) -> Counter[str]:
    """It connects before it can be enrolled, to the servers' own addresses."""
    there = lab.target(RESTLESS)
    kill(lab, "node1", lab.workload(RESTLESS).cgroup)
    elsewhere = lab.target("node1").place.cgroup
    servers = [lab.workload(f"{node}/bench/server") for node in NODES]
    addresses = [address for server in servers for address in server.addresses]
    words = [there.place.cgroup, elsewhere, str(RESTARTS), *addresses]
    place = replace(there.place, cgroup=elsewhere)
    command = launcher(place, [sys.executable, "-c", RESTART, *words])
    done = subprocess.run(command, env=there.env, capture_output=True, text=True, check=True)
    return Counter(json.loads(done.stdout))


def _address_reused(lab: api.Lab) -> Counter[str]:
    """The servers' node hears of it later."""
    with paused(lab, "node2"):
        place = succeed(lab, FORMER, "heir", {"app": "outsider"})
        heir = _Watch(lab, Target(place, lab.target(FORMER).env), hold=False)
        time.sleep(3)
    time.sleep(3)
    return heir.seen()


def _proxies_die(lab: api.Lab) -> None:
    for node in NODES:
        kill(lab, node, "hoplite-l7proxy")
    time.sleep(2)


def _controller_dies(lab: api.Lab) -> None:
    kill(lab, "controller")
    time.sleep(5)


def _row(lab: api.Lab, what: str, event: Event) -> Row:
    allowed = _Watch(lab, lab.target("node1/bench/client"), hold=True)
    refused = _Watch(lab, lab.target("node1/bench/outsider"), hold=False)
    time.sleep(1)
    more = event(lab)
    time.sleep(1)
    served, tried = allowed.seen(), refused.seen() + (more or Counter())
    failed = sum(n for key, n in served.items() if not key.endswith(" ok"))
    escaped = sum(n for key, n in tried.items() if key.endswith(" ok"))
    strange = {key: n for key, n in served.items() if not key.endswith(" ok")}
    return Row(
        what,
        f"{failed} failed, {escaped} escaped",
        "0, 0",
        not failed and not escaped,
        f"{sum(served.values()):,} allowed, {sum(tried.values()):,} refused"
        + "".join(f"; {n} times {key}" for key, n in strange.items()),
    )


class _Watch:
    """A client at work until it is asked what it has seen."""

    def __init__(self, lab: api.Lab, where: Target, *, hold: bool) -> None:
        services = [a for name in ("near", "far") for a in virtual_addresses(lab, "bench", name)]
        words = ["hold" if hold else "", *services]
        self._process = subprocess.Popen(
            launcher(where.place, [sys.executable, "-c", WATCH, *words]),
            env=where.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._process.stdout is None or self._process.stdout.readline() != "watching\n":
            raise HopliteError(f"nobody can watch in {where.place.cgroup}")

    def seen(self) -> Counter[str]:
        out, _ = self._process.communicate("", timeout=30)
        return Counter(json.loads(out))
