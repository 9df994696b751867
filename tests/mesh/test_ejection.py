"""Backends that do not take connections: left out in the kernel, tried again, and shown."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from lab import api
from lab.processes import launcher
from lab.restart import kill, programs, start_agent
from meshapi.resources import MeshNode
from tests.mesh.asking import (
    apply,
    ask_agent,
    ask_unix,
    delete,
    dial,
    eventually,
    flows,
    virtual_addresses,
)
from tests.mesh.balancing_world import (
    HOSTS,
    LAB,
    PODS,
    get,
    get_workload,
    in_kernel,
    policy,
    service,
    workload_name,
)

pytestmark = pytest.mark.root

# Connects COUNT times with a timeout of SECONDS, and says what came of it, as DIAL does.
PATIENT = """
import collections, errno, json, socket, sys
address, port, count, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
answers = collections.Counter()
for _ in range(count):
    try:
        with socket.create_connection((address, port), timeout=seconds) as connection:
            answers[connection.recv(99).decode()] += 1
    except OSError as error:
        answers[errno.errorcode.get(error.errno or 0, type(error).__name__)] += 1
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str], api.Lab]) -> api.Lab:
    return make_lab(LAB)


@pytest.fixture
def name(lab: api.Lab) -> Iterator[str]:
    """A service of the test's own: what is held against its backends is held against no other's."""
    made = f"web{next(_NUMBERS)}"
    apply(lab, service(made))
    yield made
    for who in ("one", "two", "three"):
        revive(lab, who)
    delete(lab, "service", "shop", made)


_NUMBERS = itertools.count(1)


def eject(lab: api.Lab, name: str, **settings: int) -> None:
    apply(lab, policy(name, name, outlierDetection=settings))


def virtual(lab: api.Lab, name: str, family: int = 0) -> str:
    return virtual_addresses(lab, "shop", name)[family]


def place(lab: api.Lab, who: str) -> str:
    node = {"one": "node1", "two": "node2", "three": "node3"}[who]
    return f"{node}/shop/web{node[-1]}"


def silence(lab: api.Lab, who: str) -> None:
    """End a server: its port refuses connections from now on."""
    workload = lab.workload(place(lab, who))
    kill(lab, workload.node, workload.cgroup)


def revive(lab: api.Lab, who: str) -> None:
    """Start a server that was ended."""
    workload = lab.workload(place(lab, who))
    if programs(lab, workload.node, workload.cgroup):
        return
    there = lab.target(place(lab, who))
    with lab.record.names.log(workload.target).open("ab") as log:
        subprocess.Popen(
            launcher(there.place, workload.command),
            env=there.env,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    own = workload.addresses[0]
    eventually(lambda: dial(lab, workload.target, own, 7000)["answers"] == {who: 1})


def backends(lab: api.Lab, node: str = "node1") -> list[dict[str, object]]:
    found: list[dict[str, object]] = ask_agent(lab, node, "/backends")
    return found


def left_out(lab: api.Lab, name: str) -> set[str]:
    """The workloads that node1 leaves out of a service."""
    found = (b for b in backends(lab) if b["service"] == f"shop/{name}" and b["ejectedUntil"])
    return {str(b["workload"]).removeprefix("shop/") for b in found}


def patient(lab: api.Lab, target: str, address: str, count: int, seconds: float) -> dict[str, int]:
    command = [sys.executable, "-c", PATIENT, address, "80", str(count), str(seconds)]
    done = lab.exec(target, command, timeout=100)
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


# -- refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_five_failures_in_a_row_and_it_is_out(lab: api.Lab, name: str, family: int) -> None:
    """Without any policy."""
    silence(lab, "two")
    found = dial(lab, PODS[0], virtual(lab, name, family), 80, 200)["answers"]
    assert found["ECONNREFUSED"] == 5
    assert found.keys() == {"ECONNREFUSED", "one", "three"}
    assert min(found["one"], found["three"]) > 60
    assert left_out(lab, name) == {workload_name(lab, "two")}


def test_what_one_caller_met_is_confirmed_by_the_next_with_a_single_failure(
    lab: api.Lab, name: str
) -> None:
    silence(lab, "two")
    address = virtual(lab, name)
    assert dial(lab, PODS[0], address, 80, 100)["answers"]["ECONNREFUSED"] == 5
    caller = get_workload(lab, PODS[0].rpartition("/")[2]).status.identity
    assert caller in {o["value"]["who"] for o in in_kernel(lab, "node1", "outliers")}
    assert dial(lab, PODS[1], address, 80, 100)["answers"]["ECONNREFUSED"] == 1
    assert "ECONNREFUSED" not in dial(lab, PODS[2], address, 80, 100)["answers"]
    assert "ECONNREFUSED" not in dial(lab, HOSTS[0], address, 80, 100)["answers"]


def test_when_its_time_is_over_one_connection_is_a_probe(lab: api.Lab, name: str) -> None:
    eject(lab, name, baseEjectionSeconds=2)
    address = virtual(lab, name)
    silence(lab, "two")
    assert dial(lab, PODS[0], address, 80, 100)["answers"]["ECONNREFUSED"] == 5
    for _ in range(2):  # 2 s, then 4 s
        eventually(lambda: not left_out(lab, name))
        assert dial(lab, PODS[0], address, 80, 100)["answers"]["ECONNREFUSED"] == 1
        assert left_out(lab, name)
        assert dial(lab, PODS[0], address, 80, 30)["answers"].keys() == {"one", "three"}
    revive(lab, "two")
    eventually(lambda: not left_out(lab, name))
    found = dial(lab, PODS[0], address, 80, 100)["answers"]
    assert found.keys() == {"one", "two", "three"}
    assert found["two"] > 10


def test_a_success_in_between_begins_anew(lab: api.Lab, name: str) -> None:
    """Failures count in a row: a backend that fails now and then stays."""
    address = virtual(lab, name)
    for _ in range(3):
        silence(lab, "two")
        failed = 0
        while failed < 3:
            failed += dial(lab, PODS[0], address, 80, 1)["answers"].get("ECONNREFUSED", 0)
        revive(lab, "two")
        eventually(lambda: "two" in dial(lab, PODS[0], address, 80, 5)["answers"])
    assert not left_out(lab, name)


def test_it_works_while_the_agent_is_away_and_its_successor_sees_it(
    lab: api.Lab, name: str
) -> None:
    eject(lab, name, baseEjectionSeconds=60)
    address = virtual(lab, name)
    kill(lab, "node1", "hoplite-agent")
    silence(lab, "two")
    assert dial(lab, PODS[0], address, 80, 100)["answers"]["ECONNREFUSED"] == 5
    assert dial(lab, PODS[0], address, 80, 50)["answers"].keys() == {"one", "three"}
    start_agent(lab, "node1")
    assert dial(lab, PODS[0], address, 80, 50)["answers"].keys() == {"one", "three"}
    assert left_out(lab, name) == {workload_name(lab, "two")}


def test_never_more_than_the_given_part_and_never_nobody(lab: api.Lab, name: str) -> None:
    """Half of three is one: the second dead one is dialled, and failed connections say so."""
    address = virtual(lab, name)
    silence(lab, "two")
    silence(lab, "three")
    found = dial(lab, PODS[0], address, 80, 300)["answers"]
    assert len(left_out(lab, name)) == 1
    assert 60 < found["ECONNREFUSED"] < 240  # half of those that are left, as ever
    silence(lab, "one")
    assert dial(lab, PODS[0], address, 80, 20)["answers"] == {"ECONNREFUSED": 20}
    assert all(f.state == "failed" for f in flows(lab, source="shop/pod1", last=10))


def test_a_policy_may_allow_more_or_nothing(lab: api.Lab, name: str) -> None:
    eject(lab, name, maxEjectionPercent=100, consecutiveConnectFailures=1)
    address = virtual(lab, name)
    silence(lab, "two")
    silence(lab, "three")
    assert dial(lab, PODS[0], address, 80, 60)["answers"] == {"ECONNREFUSED": 2, "one": 58}
    eject(lab, name, consecutiveConnectFailures=0)
    assert dial(lab, PODS[0], address, 80, 60)["answers"]["ECONNREFUSED"] > 20


# -- ignored ---------------------------------------------------------------------------------------


@contextmanager
def cut_off(lab: api.Lab, node: str) -> Iterator[None]:
    """A partition: the node's cable is out for as long as the ``with`` lasts."""
    cable = ["ip", "-n", lab.record.plan.fabric, "link", "set", node]
    subprocess.run([*cable, "down"], check=True)
    try:
        yield
    finally:
        subprocess.run([*cable, "up"], check=True)


def test_silence_counts_when_the_application_gives_up(lab: api.Lab, name: str) -> None:
    """A partition: nobody answers, and each attempt ends when its caller has had enough."""
    eject(lab, name, consecutiveConnectFailures=2, baseEjectionSeconds=60)
    with cut_off(lab, "node2"):
        found = patient(lab, PODS[0], virtual(lab, name), 40, 0.5)
        assert found.keys() <= {"one", "three", "TimeoutError", "EHOSTUNREACH"}
        assert found["one"] + found["three"] == 38
        assert left_out(lab, name) == {workload_name(lab, "two")}


def test_an_application_without_patience_blames_nobody(lab: api.Lab, name: str) -> None:
    eject(lab, name, consecutiveConnectFailures=1)
    with cut_off(lab, "node2"):
        found = patient(lab, PODS[0], virtual(lab, name), 40, 0.05)
        assert found["TimeoutError"] > 4
        assert not left_out(lab, name)


def test_a_stopped_server_is_still_accepted_for_by_its_kernel(lab: api.Lab, name: str) -> None:
    """SIGSTOP: connections come about, so this is a matter for a health check."""
    workload = lab.workload(place(lab, "two"))
    (pid,) = programs(lab, workload.node, workload.cgroup)
    os.kill(pid, signal.SIGSTOP)
    try:
        assert patient(lab, PODS[0], virtual(lab, name), 20, 0.3)["TimeoutError"]
        assert not left_out(lab, name)
    finally:
        os.kill(pid, signal.SIGCONT)


# -- refused by policy on the server's side --------------------------------------------------------

NOT_HOST2 = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: not-host2, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [host2]}]}}]
"""


def test_a_refusal_by_the_servers_node_is_held_against_nobody_else(lab: api.Lab, name: str) -> None:
    """Without identities in SYNs other nodes cannot tell host-network workloads apart, and drop
    what not all of them may do.

    To host1, which its own node lets through, that looks like a dead server; others are unharmed.
    """
    eject(lab, name, consecutiveConnectFailures=2, baseEjectionSeconds=60)
    address = virtual(lab, name)
    kill(lab, "node1", "hoplite-agent")
    start_agent(lab, "node1", HOPLITE_AGENT_IDENTITY_TAGS="false")
    apply(lab, NOT_HOST2)
    try:
        found = patient(lab, HOSTS[0], address, 30, 0.5)
        assert found["TimeoutError"] >= 2
        assert found["one"] > 0  # on its own node it is known by its cgroup
        assert dial(lab, PODS[0], address, 80, 60)["answers"].keys() == {"one", "two", "three"}
    finally:
        delete(lab, "networkpolicy", "shop", "not-host2")
        kill(lab, "node1", "hoplite-agent")
        start_agent(lab, "node1")


# -- shown -----------------------------------------------------------------------------------------


def test_everybody_can_see_it(lab: api.Lab, name: str) -> None:
    silence(lab, "two")
    dial(lab, PODS[0], virtual(lab, name), 80, 100)
    workload = workload_name(lab, "two")
    (shown,) = [b for b in backends(lab) if b["ejectedUntil"] and b["service"] == f"shop/{name}"]
    assert (shown["workload"], shown["port"], shown["use"]) == (f"shop/{workload}", 80, "new")
    assert str(shown["address"]).endswith(":7000")
    metrics = ask_unix(lab.agent_socket("node1"), "/metrics")
    assert f'hoplite_backend_ejected{{address="{shown["address"]}"' in metrics

    def reported() -> set[tuple[str, str]]:
        node = get(lab, "meshnode", "node1")
        assert isinstance(node, MeshNode)
        return {(e.service, e.workload) for e in node.status.ejections}

    eventually(lambda: (name, workload) in reported())
    table = subprocess.run(
        [sys.executable, "-m", "hopctl", "get", "services", "-o", "wide"],
        env={**lab.env, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (row,) = (line for line in table.splitlines() if f" {name} " in line)
    assert f"{workload} by node1" in row
    delete(lab, "service", "shop", name)
    eventually(lambda: (name, workload) not in reported())
    apply(lab, service(name))
