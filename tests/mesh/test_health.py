"""Health checks between real processes: who finds out, who acts on it, and who can see it."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from lab import api
from lab.processes import launcher
from lab.restart import kill, programs, start_agent
from tests.mesh.asking import apply, ask_unix, delete, dial, eventually, virtual_addresses
from tests.mesh.balancing_world import change, get_workload, policy

pytestmark = pytest.mark.root

# Answers every connection to PORT with WHO at once; on HEALTH it is an HTTP server whose status is
# the last one that was asked for (GET /be/503).
SERVER = """
import http.server, os, socket, threading

class Health(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_GET(self):
        if self.path.startswith("/be/"):
            Health.status = int(self.path.removeprefix("/be/"))
        self.send_response(Health.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass

health = http.server.ThreadingHTTPServer(("", int(os.environ["HEALTH"])), Health)
threading.Thread(target=health.serve_forever, daemon=True).start()
listener = socket.create_server(
    ("::", int(os.environ["PORT"])), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64
)
while True:
    connection, _ = listener.accept()
    connection.sendall(os.environ["WHO"].encode())
    connection.close()
"""
PORT, HEALTH = 7000, 7002
# The controller takes a port that changes again and again at its word once in five seconds.
soon = functools.partial(eventually, patience=30)
INDENTED = textwrap.indent(SERVER.strip(), " " * 10)
SERVERS = {"one": ("node1", "web1"), "two": ("node2", "web2"), "host": ("node2", "web3")}

LAB = f"""
apiVersion: lab.hoplite.io/v1alpha1
kind: Lab
spec:
  nodes:
  - name: node1
    workloads:
    - &server
      name: web1
      namespace: shop
      serviceAccount: web
      labels: {{app: web}}
      ports: [{{name: tcp, port: {PORT}}}, {{name: health, port: {HEALTH}}}]
      env: {{WHO: one, PORT: "{PORT}", HEALTH: "{HEALTH}"}}
      command:
      - python3
      - -c
      - |
{INDENTED}
    - {{name: client, namespace: shop, labels: {{app: client}}}}
  - name: node2
    workloads:
    - {{<<: *server, name: web2, env: {{WHO: two, PORT: "{PORT}", HEALTH: "{HEALTH}"}}}}
    - <<: *server
      name: web3
      network: host
      ports: [{{name: tcp, port: 7100}}, {{name: health, port: 7102}}]
      env: {{WHO: host, PORT: "7100", HEALTH: "7102"}}
    - {{name: far, namespace: shop, labels: {{app: client}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: shop}}
spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: tcp}}]}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: clients-only, namespace: shop}}
spec:
  podSelector: {{matchLabels: {{app: web}}}}
  ingress: [{{from: [{{podSelector: {{matchLabels: {{app: client}}}}}}],
              ports: [{{port: tcp}}]}}]
"""

CLIENT, FAR = "node1/shop/client", "node2/shop/far"
EVERYBODY = {"one", "two", "host"}


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str], api.Lab]) -> api.Lab:
    return make_lab(LAB)


@pytest.fixture(autouse=True)
def _as_it_was(lab: api.Lab) -> Iterator[None]:
    yield
    check(lab)
    for who in SERVERS:
        be(lab, who, 200)
    soon(lambda: reached(lab, CLIENT) == reached(lab, FAR) == EVERYBODY)


def check(lab: api.Lab, **spec: Any) -> None:
    """Have all servers checked, quickly; without any more words their main port."""
    quick = {"intervalSeconds": 1, "unhealthyThreshold": 2, **spec}
    apply(lab, policy("web", "web", healthCheck=quick, outlierDetection=NO_EJECTION))


NO_EJECTION = {"consecutiveConnectFailures": 0}
HTTP = {"protocol": "HTTP", "path": "/"}


def name_of(lab: api.Lab, who: str) -> str:
    node, name = SERVERS[who]
    return lab.workload(f"{node}/shop/{name}").resource


def unhealthy(lab: api.Lab, who: str) -> tuple[int, ...]:
    """By the controller's word."""
    return get_workload(lab, name_of(lab, who)).status.unhealthy_ports


def be(lab: api.Lab, who: str, status: int) -> None:
    """Have a server say this status from now on, asked from within, or by its own node."""
    node, name = SERVERS[who]
    port, place = (7102, node) if who == "host" else (HEALTH, f"{node}/shop/{name}")
    code = (
        "import http.client\n"
        f"c = http.client.HTTPConnection('127.0.0.1', {port}); c.request('GET', '/be/{status}')\n"
        "c.getresponse().read()"
    )
    done = lab.exec(place, [sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr


def reached(lab: api.Lab, target: str) -> set[str]:
    address = virtual_addresses(lab, "shop", "web")[0]
    return set(dial(lab, target, address, 80, 40)["answers"])


def test_a_policy_that_refuses_everybody_else_lets_the_node_ask(lab: api.Lab) -> None:
    """Nobody but clients may reach the servers, and the health port nobody at all."""
    checked: dict[str, Any] = {**HTTP, "port": HEALTH}
    check(lab, **checked)

    def asked() -> bool:
        metrics = _metrics(lab, "node1")
        line = 'hoplite_health_checks_total{namespace="shop",port="7002",result="success"'
        return line in metrics and 'result="failure"' not in metrics

    soon(asked)
    assert unhealthy(lab, "one") == ()


@pytest.mark.parametrize(("who", "port"), [("one", 7000), ("two", 7000), ("host", 7100)])
def test_a_bad_status_takes_a_backend_out_everywhere_and_a_good_one_brings_it_back(
    lab: api.Lab, who: str, port: int
) -> None:
    check(lab, **HTTP, port=HEALTH if who != "host" else 7102)
    others = {other for other in SERVERS if (other == "host") != (who == "host")}
    for other in others:  # the check's port is not theirs: they fail it all the time
        soon(lambda other=other: bool(unhealthy(lab, other)))
    be(lab, who, 503)
    soon(lambda: unhealthy(lab, who) == (port,))
    be(lab, who, 204)
    soon(lambda: unhealthy(lab, who) == ())
    soon(lambda: who in reached(lab, CLIENT) and who in reached(lab, FAR))


def test_one_of_three(lab: api.Lab) -> None:
    node, name = SERVERS["two"]
    workload = lab.workload(f"{node}/shop/{name}")
    (pid,) = programs(lab, node, workload.cgroup)
    check(lab)  # TCP, the port itself
    _serve_no_more(lab, pid, "two")
    try:
        soon(lambda: unhealthy(lab, "two") == (PORT,))
        soon(lambda: reached(lab, CLIENT) == reached(lab, FAR) == {"one", "host"})
        shown = _hopctl(lab, "get", "workloads")
        (row,) = (line for line in shown.splitlines() if name_of(lab, "two") in line)
        assert f"unhealthy: {PORT}" in row
        (row,) = (line for line in _hopctl(lab, "get", "services").splitlines() if " web " in line)
        assert "2/3" in row
        metrics = _metrics(lab, "node2")
        assert (
            'hoplite_backend_healthy{namespace="shop",port="7000",workload="web2"} 0.0' in metrics
        )
        assert (
            'hoplite_backend_healthy{namespace="shop",port="7100",workload="web3"} 1.0' in metrics
        )
    finally:
        _restart(lab, "two")
    soon(lambda: unhealthy(lab, "two") == ())
    soon(lambda: reached(lab, CLIENT) == EVERYBODY)


def test_a_process_that_hangs_is_found_by_asking_it_something(lab: api.Lab) -> None:
    """SIGSTOP: its kernel accepts for it, so an open port says nothing; no answer does."""
    check(lab, **HTTP, port=HEALTH)
    be(lab, "one", 200)
    workload = lab.workload("node1/shop/web1")
    (pid,) = programs(lab, "node1", workload.cgroup)
    soon(lambda: unhealthy(lab, "one") == ())
    os.kill(pid, signal.SIGSTOP)
    try:
        soon(lambda: unhealthy(lab, "one") == (PORT,))
    finally:
        os.kill(pid, signal.SIGCONT)
    soon(lambda: unhealthy(lab, "one") == ())


def test_a_workload_of_ipv6_only_is_asked_there(lab: api.Lab) -> None:
    """The HTTP server has no IPv6 and the port itself has; policy lets the node ask it."""
    name = name_of(lab, "two")
    check(lab, **HTTP, port=HEALTH)
    soon(lambda: unhealthy(lab, "two") == ())
    both = get_workload(lab, name).spec.addresses

    def have(*addresses: str) -> None:
        change(
            lab, "workload", name, lambda w: replace(w, spec=replace(w.spec, addresses=addresses))
        )

    have(both[1])
    try:
        soon(lambda: unhealthy(lab, "two") == (PORT,))
        check(lab)
        soon(lambda: unhealthy(lab, "two") == ())
        virtual = virtual_addresses(lab, "shop", "web")[1]
        soon(lambda: "two" in dial(lab, CLIENT, virtual, 80, 40)["answers"])
    finally:
        have(*both)


def test_when_all_fail_all_are_used(lab: api.Lab) -> None:
    """A check that asks for the wrong thing takes nothing down."""
    check(lab, port=9)
    for who in SERVERS:
        soon(lambda who=who: bool(unhealthy(lab, who)))
    assert reached(lab, CLIENT) == reached(lab, FAR) == EVERYBODY


def test_on_its_own_node_nobody_needs_the_controller(lab: api.Lab) -> None:
    check(lab, **HTTP, port=HEALTH, unhealthyThreshold=1)
    soon(lambda: unhealthy(lab, "one") == () and bool(unhealthy(lab, "host")))
    soon(lambda: reached(lab, CLIENT) == {"one", "two"})
    fabric = lab.record.plan.fabric
    cable = ["ip", "-n", fabric, "link", "set", "node1"]
    subprocess.run([*cable, "down"], check=True)
    try:
        be(lab, "one", 500)
        soon(lambda: "one" not in _dialled(lab))
        be(lab, "one", 200)
        soon(lambda: "one" in _dialled(lab))
    finally:
        subprocess.run([*cable, "up"], check=True)
    soon(lambda: reached(lab, CLIENT) == {"one", "two"})


def _dialled(lab: api.Lab) -> set[str]:
    """Whom the kernel of node1 would send new connections of the service to."""
    found = json.loads(ask_unix(lab.agent_socket("node1"), "/backends"))
    names = {name_of(lab, who): who for who in SERVERS}
    return {
        names[b["workload"].removeprefix("shop/")]
        for b in found
        if b["service"] == "shop/web" and b["use"] == "new"
    }


def test_a_new_agent_begins_with_what_was_said_last(lab: api.Lab) -> None:
    check(lab, **HTTP, port=HEALTH, intervalSeconds=3600, timeoutSeconds=1)
    be(lab, "one", 500)
    check(lab, **HTTP, port=HEALTH)
    soon(lambda: unhealthy(lab, "one") == (PORT,))
    kill(lab, "node1", "hoplite-agent")
    start_agent(lab, "node1")
    assert "one" not in _dialled(lab)
    soon(lambda: "one" not in reached(lab, CLIENT))


def test_without_its_policy_a_port_is_healthy_again(lab: api.Lab) -> None:
    check(lab, **HTTP, port=HEALTH)
    be(lab, "one", 500)
    soon(lambda: unhealthy(lab, "one") == (PORT,))
    delete(lab, "trafficpolicy", "shop", "web")
    soon(lambda: unhealthy(lab, "one") == ())
    soon(lambda: reached(lab, CLIENT) == EVERYBODY)


def _serve_no_more(lab: api.Lab, pid: int, who: str) -> None:
    os.kill(pid, signal.SIGKILL)
    node, name = SERVERS[who]
    cgroup = lab.workload(f"{node}/shop/{name}").cgroup
    soon(lambda: not programs(lab, node, cgroup))


def _restart(lab: api.Lab, who: str) -> None:
    node, name = SERVERS[who]
    workload = lab.workload(f"{node}/shop/{name}")
    there = lab.target(workload.target)
    with lab.record.names.log(workload.target).open("ab") as log:
        subprocess.Popen(
            launcher(there.place, workload.command),
            env=there.env,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _metrics(lab: api.Lab, node: str) -> str:
    return ask_unix(lab.agent_socket(node), "/metrics")


def _hopctl(lab: api.Lab, *words: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "hopctl", *words],
        env={**lab.env, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
