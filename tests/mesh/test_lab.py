"""Whole labs: every daemon is real, and so is what ``up`` promises when it returns."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import api, bpffs, bringup, cgroups, netns, status, traces
from lab.names import LabNames
from meshapi.errors import HopliteError

pytestmark = pytest.mark.root

LAB = [sys.executable, "-m", "lab"]
ECHO = (
    "import os, socketserver as s; "
    "h = type('H', (s.StreamRequestHandler,), {'handle': lambda x: x.wfile.write(os.environ"
    "['WHO'].encode())}); s.TCPServer(('', 7000), h).serve_forever()"
)

TWO_NODES = f"""
apiVersion: lab.hoplite.io/v1alpha1
kind: Lab
spec:
  nodes:
    - name: node1
      labels: {{topology.kubernetes.io/zone: a}}
      workloads:
        - name: echo
          namespace: shop
          serviceAccount: echo
          labels: {{app: echo}}
          ports: [{{name: echo, port: 7000}}]
          env: {{WHO: first}}
          command: &echo [python3, -c, "{ECHO}"]
        - {{name: client, namespace: shop}}
    - name: node2
      workloads:
        - name: echo
          namespace: shop
          serviceAccount: echo
          labels: {{app: echo}}
          ports: [{{name: echo, port: 7000}}]
          env: {{WHO: second}}
          command: *echo
        - {{name: watcher, namespace: ops, network: host, weight: 3}}
---
{{apiVersion: v1, kind: Service, metadata: {{name: echo, namespace: shop}},
  spec: {{selector: {{app: echo}}, ports: [{{port: 7000}}]}}}}
---
{{apiVersion: v1, kind: Service, metadata: {{name: nobody, namespace: shop}},
  spec: {{selector: {{app: nobody}}, ports: [{{port: 1}}]}}}}
"""

ONE_NODE = """
apiVersion: lab.hoplite.io/v1alpha1
kind: Lab
spec:
  nodes:
    - name: node1
      workloads:
        - {name: web, namespace: shop, %s}
"""

RECEIVE = (
    "import socket, sys; s = socket.create_connection((sys.argv[1], 7000), 3); "
    "print(s.recv(99).decode())"
)


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str], api.Lab]) -> api.Lab:
    return make_lab(TWO_NODES)


@pytest.fixture
def name(_session: Callable[[], str]) -> Iterator[str]:
    """For a lab that a test starts by itself; afterwards there must be no trace of it."""
    found = _session()
    yield found
    assert traces.of(found) == []


def run(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LAB, *words], input=stdin, capture_output=True, text=True, check=False, timeout=100
    )


# -- what up promises --------------------------------------------------------------------------


def test_every_daemon_is_ready_and_every_workload_enrolled(lab: api.Lab) -> None:
    found = status.collect(lab)
    assert found.problem == ""
    assert found.controller_pids
    assert [(n.name, n.ready) for n in found.nodes] == [("node1", True), ("node2", True)]
    assert all(n.agent_pids and n.l7proxy_pids and n.revision for n in found.nodes)
    assert {w.resource for w in found.workloads} == {
        "echo-node1",
        "echo-node2",
        "client",
        "watcher",
    }
    assert all(w.ready for w in found.workloads)


def test_warnings_of_the_controller_are_handed_on(lab: api.Lab) -> None:
    assert any("nobody" in warning for warning in lab.warnings)


def test_workloads_with_a_command_serve(lab: api.Lab) -> None:
    for node, who in (("node1", "first"), ("node2", "second")):
        address = lab.workload(f"{node}/shop/echo").address4
        result = lab.exec("node1/shop/client", ["python3", "-c", RECEIVE, address])
        assert result.stdout == who + "\n", result.stderr


def test_the_files_resources_are_in_force(lab: api.Lab) -> None:
    out = hopctl(lab, "get", "service", "shop/echo", "-o", "json")
    address = json.loads(out)["spec"]["clusterIP"]
    seen = {
        lab.exec("node1/shop/client", ["python3", "-c", RECEIVE, address]).stdout.strip()
        for _ in range(20)
    }
    assert seen == {"first", "second"}


def test_labels_of_nodes_and_weights_of_workloads_reach_the_controller(lab: api.Lab) -> None:
    def stored(kind: str, name: str) -> Any:
        return json.loads(hopctl(lab, "get", kind, name, "-o", "json"))

    zone = {"topology.kubernetes.io/zone": "a"}
    assert stored("node", "node1")["metadata"]["labels"] == zone
    assert "labels" not in stored("node", "node2")["metadata"]
    assert stored("workload", "ops/watcher")["spec"]["weight"] == 3


def test_identities_follow_the_service_account(lab: api.Lab) -> None:
    items = json.loads(hopctl(lab, "get", "workloads", "-A", "-o", "json"))["items"]
    identities = {i["metadata"]["name"]: i["status"]["identity"] for i in items}
    assert identities["echo-node1"] == identities["echo-node2"] != identities["client"]


def test_env_and_exec_on_the_command_line(lab: api.Lab) -> None:
    out = run("env", "--name", lab.name).stdout
    exported = subprocess.run(
        ["sh", "-c", f"{out}\n env"], capture_output=True, text=True, check=True
    ).stdout
    assert f"HOPLITE_SERVER={lab.record.server}\n" in exported
    result = run("exec", "--name", lab.name, "node2/ops/watcher", "--", "cat", "/proc/self/cgroup")
    assert result.stdout.endswith(f"/hoplite-lab-{lab.name}/node2/host/ops_watcher\n")


def test_the_daemons_that_need_no_root_have_no_capability(lab: api.Lab) -> None:
    for group in (lab.cgroup("controller"), lab.cgroup("node1", "hoplite-l7proxy")):
        for pid in cgroups.pids(group):
            found = Path(f"/proc/{pid}/status").read_text()
            assert "CapEff:\t0000000000000000" in found
            assert "NoNewPrivs:\t1" in found


def test_a_second_lab_beside_it(lab: api.Lab, name: str) -> None:
    other = api.start(ONE_NODE % "network: pod", name=name)
    try:
        assert other.exec("node1/shop/web", ["true"]).returncode == 0
        assert other.workload("node1/shop/web").address4 == "10.244.1.11"
        assert lab.exec("node1/shop/client", ["true"]).returncode == 0
    finally:
        api.stop(name)
    assert status.collect(lab).problem == ""


# -- what goes wrong ---------------------------------------------------------------------------


def refused(text: str, name: str) -> str:
    with pytest.raises(HopliteError) as caught:
        api.start(text, name=name, source="f.yaml")
    assert traces.of(name) == []
    return str(caught.value)


def test_a_command_that_dies_early_is_named_with_its_last_words(name: str) -> None:
    died = refused(
        ONE_NODE % 'ports: [{port: 80}], command: [sh, -c, "echo no disk >&2; exit 3"]', name
    )
    assert died == "node1/shop/web ended with status 3: no disk"


def test_a_command_without_ports_may_end_well_but_not_badly(name: str) -> None:
    assert refused(ONE_NODE % 'command: ["false"]', name) == "node1/shop/web ended with status 1"
    api.start(ONE_NODE % 'command: ["true"]', name=name)
    api.stop(name)


def test_a_port_that_nobody_listens_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bringup, "_PORT_PATIENCE", 0.5)
    silent = refused(
        ONE_NODE % 'ports: [{port: 80}], command: [sh, -c, "echo waiting; sleep 60"]', name
    )
    assert silent == (
        "node1/shop/web does not listen on 80/TCP after 0.5 s; node1/shop/web said last: waiting"
    )


def test_what_the_controller_refuses_is_refused_before_nodes_start(name: str) -> None:
    text = (
        ONE_NODE
        % "network: pod"
        + "---\napiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: absent}\n"
        "spec: {ports: [{port: 80}]}\n"
    )
    assert refused(text, name).startswith(
        "f.yaml:12: $.metadata.namespace: Service absent/s: namespace 'absent' does not exist"
    )


def test_a_daemon_that_dies_is_named_with_its_last_words(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.daemons.SERVICE_CIDRS", ["nonsense"])
    died = refused(ONE_NODE % "network: pod", name)
    assert died.startswith("controller ended with status 1: hoplite-controller: ")
    assert "$.serviceCIDRs[0]" in died


def begun(name: str) -> subprocess.Popen[str]:
    """An ``up`` that is at work."""
    process = subprocess.Popen(
        [*LAB, "up", "-", "--name", name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(TWO_NODES)
    process.stdin.close()
    process.stdin = None
    deadline = time.monotonic() + 30
    while not (LabNames(name).logs / "node1.agent.log").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_up_removes_what_it_has_begun(name: str, number: int) -> None:
    process = begun(name)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "hoplite-lab: interrupted\n")
    assert traces.of(name) == []


def test_an_up_that_was_killed_is_removed_by_down(name: str) -> None:
    process = begun(name)
    busy = run("down", "--name", name)
    assert "being started or removed by another process" in busy.stderr
    process.kill()
    process.communicate()
    assert "is not up yet" in run("env", "--name", name).stderr
    assert run("down", "--name", name).returncode == 0


def test_a_lab_whose_daemons_were_killed_is_removed_whole(name: str) -> None:
    made = api.start(ONE_NODE % "network: pod", name=name)
    for group in (made.cgroup("controller"), made.cgroup("node1", "hoplite-agent")):
        cgroups.kill(group)
    found = status.collect(made)
    assert found.problem
    assert found.controller_pids == []
    (made.record.names.record).write_text("{")
    assert api.stop(name) is True


# -- the test of the tests ---------------------------------------------------------------------


def test_what_is_left_behind_is_found(
    _session: Callable[[], str], leftovers: Callable[[], list[str]]
) -> None:
    forgotten = _session()
    names = LabNames(forgotten)
    cgroup = names.cgroup(cgroups.mount_point())
    try:
        netns.create(names.netns("node1"))
        cgroups.make(cgroup)
        names.state.mkdir(parents=True)
        bpffs.ensure()
        names.pins.mkdir()
        command = f"echo 0 > {cgroup}/cgroup.procs; exec sleep 60"
        process = subprocess.Popen(["sh", "-c", command])
        time.sleep(0.1)
        found = " ".join(leftovers())
        for what in ("network namespace", "mount", f"process {process.pid}", "cgroup", "/run/hop"):
            assert what in found
        assert str(names.pins) in found
    finally:
        api.stop(forgotten)
        process.wait()


def hopctl(lab: api.Lab, *words: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "hopctl", *words],
        env={**os.environ, **lab.env},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout
