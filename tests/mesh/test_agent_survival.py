"""What goes on when processes of the mesh do not: traffic, policy, and the way back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import api
from lab.account import ROOT
from lab.restart import kill, later_release, remove_pins, start_agent
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
from tests.mesh.test_datapath import CLIENT, FAR_CLIENT, LAB, OUTSIDER, TCP

pytestmark = pytest.mark.root

CLOSED = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: nobody-in, namespace: shop}
spec: {podSelector: {matchLabels: {version: one}}, ingress: []}
"""


@pytest.fixture
def lab(make_lab: Callable[[str], api.Lab]) -> Iterator[api.Lab]:
    """A lab of its own for each test: they break it."""
    made = make_lab(LAB)
    yield made
    api.stop(made.name)


def vault_as_it_should_be(lab: api.Lab) -> None:
    """The same policy as ever: clients in, outsiders out, at connect()."""
    address = virtual_addresses(lab, "shop", "vault")[0]
    assert dial(lab, CLIENT, address, 80)["answers"] == {"vault": 1}
    assert dial(lab, OUTSIDER, address, 80)["answers"] == {"EPERM": 1}


def test_a_killed_agent_stops_nothing_and_its_successor_finds_everything_right(
    lab: api.Lab,
) -> None:
    kill(lab, "node1", "hoplite-agent")
    vault_as_it_should_be(lab)
    start_agent(lab, "node1")
    vault_as_it_should_be(lab)
    log = [line for line in lab.log("node1/agent").splitlines() if "stored state" in line]
    assert log, "the stored state was in force before the controller was reached"
    after = lab.log("node1/agent").split("stored state")[-1]
    assert "datapath compiled" not in after
    assert "kernel maps changed" not in after, "a successor writes nothing"


def test_a_node_that_lost_its_pins_enforces_the_stored_state_without_a_controller(
    lab: api.Lab,
) -> None:
    """As after a reboot, with the controller away."""
    address = virtual_addresses(lab, "shop", "vault")[0]
    kill(lab, "controller")
    kill(lab, "node1", "hoplite-agent")
    remove_pins(lab, "node1")
    assert dial(lab, CLIENT, address, 80)["answers"] != {"vault": 1}  # no mesh, no address
    start_agent(lab, "node1")
    assert dial(lab, CLIENT, address, 80)["answers"] == {"vault": 1}
    assert dial(lab, OUTSIDER, address, 80)["answers"] == {"EPERM": 1}


def test_a_controller_that_is_away_stops_nothing_that_was_allowed(lab: api.Lab) -> None:
    address = virtual_addresses(lab, "shop", "echo")[0]
    vault = virtual_addresses(lab, "shop", "vault")[0]
    kill(lab, "controller")
    time.sleep(1)
    for target in (CLIENT, FAR_CLIENT):
        assert set(dial(lab, target, address, 80, 20)["answers"]) == {"one", "two"}
    assert dial(lab, OUTSIDER, vault, 80)["answers"] == {"EPERM": 1}
    gauge = "hoplite_agent_connected 0.0"
    eventually(lambda: gauge in ask_unix(lab.agent_socket("node1"), "/metrics"))


def test_flows_that_were_not_read_when_the_agent_died_are_read_by_the_next(lab: api.Lab) -> None:
    """The ring buffer is pinned: what the kernel wrote meanwhile is not lost."""
    kill(lab, "node1", "hoplite-agent")
    own = lab.workload("node1/shop/echo").addresses[0]
    assert dial(lab, CLIENT, own, TCP, 7)["answers"] == {"one": 7}
    start_agent(lab, "node1")
    eventually(
        lambda: (
            len(
                flows(
                    lab, source="shop/client", destination="shop/echo-node1", direction="outbound"
                )
            )
            == 7
        )
    )


def test_a_live_connection_outlives_the_agent_and_is_still_recorded(lab: api.Lab) -> None:
    own = lab.workload("node1/shop/echo").addresses[0]
    hold = (
        "import socket, sys; c = socket.create_connection((sys.argv[1], 7000)); "
        "c.recv(9); print('held', flush=True); sys.stdin.read(1); c.sendall(b'still'); "
        "print(c.recv(9).decode())"
    )
    client = lab.popen(CLIENT, [sys.executable, "-c", hold, own], subprocess.PIPE)
    assert client.stdout is not None
    assert client.stdout.readline() == "held\n"
    kill(lab, "node1", "hoplite-agent")
    start_agent(lab, "node1")
    out, _ = client.communicate("go", timeout=10)
    assert out == "still\n"
    eventually(
        lambda: any(
            (f.bytes_sent, f.bytes_received) == (5, 8)
            for f in flows(lab, source="shop/client", direction="outbound")
        )
    )


def test_a_changed_setting_swaps_the_programs_under_traffic(lab: api.Lab) -> None:
    """Another map size is another program set: it takes the old one's place in the links."""
    own = lab.workload("node1/shop/echo").addresses[0]
    links = lab.record.names.pins / "node1" / "links"
    inodes = {p.name: p.stat().st_ino for p in links.iterdir()}
    asking = (
        "import socket, sys, time\n"
        "end, failed, count = time.monotonic() + 6, 0, 0\n"
        "print('asking', flush=True)\n"
        "while time.monotonic() < end:\n"
        "    try:\n"
        "        with socket.create_connection((sys.argv[1], 7000), 1) as c: c.recv(9)\n"
        "        count += 1\n"
        "    except OSError: failed += 1\n"
        "print(count, failed)\n"
    )
    client = lab.popen(CLIENT, [sys.executable, "-c", asking, own])
    assert client.stdout is not None
    assert client.stdout.readline() == "asking\n"
    kill(lab, "node1", "hoplite-agent")
    config = lab.agent_socket("node1").parent.parent / "config.yaml"
    config.write_text(config.read_text() + "\nmapSizes: {refused: 512}\n")
    start_agent(lab, "node1")
    out, _ = client.communicate(timeout=20)
    count, failed = map(int, out.split())
    assert failed == 0
    assert count > 100
    assert {p.name: p.stat().st_ino for p in links.iterdir()} == inodes, "the same links"
    vault_as_it_should_be(lab)


def test_a_release_with_other_layouts_takes_over_what_is_open(lab: api.Lab, tmp_path: Path) -> None:
    """To a release whose flows have one field more, and back: an upgrade and a downgrade."""
    service = virtual_addresses(lab, "shop", "echo")[0]
    tcp = lab.popen(CLIENT, [sys.executable, "-c", HOLD_TCP, service], subprocess.PIPE)
    udp = lab.popen(CLIENT, [sys.executable, "-c", HOLD_UDP, service], subprocess.PIPE)
    held = [_next_line(tcp), _next_line(udp)]
    pins = lab.record.names.pins / "node1" / "maps"
    before = {path.name for path in pins.iterdir()}
    for release in (later_release(tmp_path / "later"), ROOT):
        kill(lab, "node1", "hoplite-agent")
        assert dial(lab, CLIENT, lab.workload("node1/shop/echo").addresses[0], TCP, 2)
        start_agent(lab, "node1", release)
        for process, word in ((tcp, held[0]), (udp, held[1])):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
            assert _next_line(process) == word, "the same backend, and the address that was dialled"
        eventually(lambda: len(_silent_flows(lab)) == 2)  # what was made meanwhile is not lost
        now = {path.name for path in pins.iterdir()}
        assert {n.partition("@")[0] for n in now - before} == (
            {"sockets", "datagrams", "drafts"} if release != ROOT else set()
        )
    for process in (tcp, udp):
        process.communicate("end\n", timeout=10)
    echoed = 2 * len("held?")
    eventually(
        lambda: any(
            f.bytes_sent == echoed
            for f in flows(lab, source="shop/client", direction="outbound", protocol="TCP")
        )
    )


def _silent_flows(lab: api.Lab) -> list:
    """The client's connections to one server over which it sent nothing."""
    seen = flows(lab, source="shop/client", destination="shop/echo-node1", direction="outbound")
    return [f for f in seen if f.bytes_sent == 0]


def _next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


# Hold one connection, and one UDP socket that is not connected; at each word say who answers it
# and the peer's name as the application sees it.
HOLD_TCP = """
import socket, sys
held = socket.create_connection((sys.argv[1], 80), 5)
who = held.recv(9).decode()
print(who, held.getpeername()[0], flush=True)
while sys.stdin.readline() == "go\\n":
    held.sendall(b"held?")
    assert held.recv(9) == b"held?"
    print(who, held.getpeername()[0], flush=True)
"""
HOLD_UDP = """
import socket, sys
held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
held.settimeout(5)
while True:
    held.sendto(b"x", (sys.argv[1], 53))
    data, peer = held.recvfrom(9)
    print(data.decode().partition(":")[0], peer[0], flush=True)
    if sys.stdin.readline() != "go\\n":
        break
"""


def test_a_policy_that_came_while_the_agent_was_down_is_enforced_when_it_is_back(
    lab: api.Lab,
) -> None:
    own = lab.workload("node1/shop/echo").addresses[0]
    kill(lab, "node1", "hoplite-agent")
    kill(lab, "node2", "hoplite-agent")
    _apply_only(lab, CLOSED)
    assert dial(lab, FAR_CLIENT, own, TCP)["answers"] == {"one": 1}
    start_agent(lab, "node1")
    start_agent(lab, "node2")
    eventually(lambda: dial(lab, FAR_CLIENT, own, TCP)["answers"] == {"EPERM": 1})


def test_a_cgroup_made_anew_is_enrolled_again(lab: api.Lab) -> None:
    """A workload that restarts may get another cgroup of the same name."""
    workload = lab.workload(OUTSIDER)
    path = lab.cgroup(workload.node, workload.cgroup)
    old = path.stat().st_ino
    kill(lab, workload.node, workload.cgroup)
    path.rmdir()
    eventually(lambda: _workload_entries(lab) == 3)
    path.mkdir()
    assert path.stat().st_ino != old
    eventually(lambda: _workload_entries(lab) == 4)
    vault_as_it_should_be(lab)


def test_a_deleted_workload_is_no_longer_captured(lab: api.Lab) -> None:
    before = _workload_entries(lab)
    delete(lab, "workload", "dev", "outsider")
    eventually(lambda: _workload_entries(lab) == before - 1)
    apply(lab, "{apiVersion: v1, kind: Namespace, metadata: {name: later}}")


def _workload_entries(lab: api.Lab) -> int:
    return len(ask_agent(lab, "node1", "/maps/workloads"))


def _apply_only(lab: api.Lab, text: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "hopctl", "apply", "-f", "-"],
        input=text,
        env={**os.environ, **lab.env},
        text=True,
        check=True,
        capture_output=True,
    )
