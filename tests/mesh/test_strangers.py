"""Connections that were open before the mesh knew their workload: none escapes policy."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import msgspec
import pytest

from lab import api
from lab.processes import launcher
from lab.restart import kill, remove_pins, start_agent
from tests.mesh.asking import eventually, flows
from tests.mesh.holding import held, last_word
from tests.mesh.test_datapath import CLIENT, FAR_OUTSIDER, HOST_CLIENT, LAB, OUTSIDER, TCP

pytestmark = pytest.mark.root

ENDED = {"ECONNABORTED", "ECONNRESET"}


@pytest.fixture
def lab(make_lab: Callable[[str], api.Lab]) -> Iterator[api.Lab]:
    made = make_lab(LAB)
    yield made
    api.stop(made.name)


def test_what_was_open_before_the_agent_is_judged_like_everything_else(lab: api.Lab) -> None:
    for node in ("node1", "node2"):
        kill(lab, node, "hoplite-agent")
        remove_pins(lab, node)
    vault = lab.workload("node2/shop/vault").addresses
    with ExitStack() as stack:
        refused = [
            stack.enter_context(held(lab, who, vault[family], TCP))
            for who in (OUTSIDER, FAR_OUTSIDER)
            for family in (0, 1)
        ]
        allowed = [
            stack.enter_context(held(lab, who, vault[family], TCP))
            for who in (CLIENT, HOST_CLIENT)
            for family in (0, 1)
        ]
        for node in ("node1", "node2"):
            start_agent(lab, node)
        assert {last_word(process) for process in refused} <= ENDED
        time.sleep(1.5)
        assert [process.poll() for process in allowed] == [None] * len(allowed)
    callers = {(name, family) for name in ("outsider", "far-outsider") for family in (0, 1)}
    eventually(lambda: _told(lab, vault, "cut") == callers)
    callers = {(name, family) for name in ("client", "host-client") for family in (0, 1)}
    eventually(lambda: _told(lab, vault, "closed", "outbound") == callers)
    callers = {("client", 0), ("client", 1)}  # the server's node does not know a host's processes
    eventually(lambda: _told(lab, vault, "closed", "inbound") >= callers)
    found = [f for f in flows(lab, destination="shop/vault") if f.state == "cut"]
    assert {(f.policy, f.reason) for f in found} == {("shop/vault", "INGRESS_DENIED")}


def _told(lab: api.Lab, vault: Sequence[str], state: str, direction: str = "") -> set[object]:
    """Who is told of, and in which family of addresses."""
    found = flows(lab, destination="shop/vault", direction=direction)
    return {(f.source.name, vault.index(f.destination.address)) for f in found if f.state == state}


# Makes a cgroup anew, enters it and connects, all within a millisecond; then uses the connection.
FIRST_THING = """
import errno, os, socket, sys, time
cgroup, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.rmdir(cgroup)
os.mkdir(cgroup)
with open(cgroup + "/cgroup.procs", "w") as procs: procs.write("0")
try:
    with socket.create_connection((address, port), timeout=5) as connection:
        connection.recv(99)
        print("open", flush=True)
        end = time.monotonic() + 3
        while time.monotonic() < end:
            connection.sendall(b"x")
            connection.recv(1)
    print("escaped")
except OSError as error:
    print(errno.errorcode.get(error.errno or 0, type(error).__name__))
"""


def test_nothing_escapes_while_a_cgroup_is_made_anew(lab: api.Lab) -> None:
    workload = lab.workload(OUTSIDER)
    path = lab.cgroup(workload.node, workload.cgroup)
    address = lab.workload("node2/shop/vault").addresses[0]
    kill(lab, "node2", "hoplite-agent")
    remove_pins(lab, "node2")  # only the caller's node is to refuse
    kill(lab, workload.node, workload.cgroup)  # or it could not be made anew
    there = lab.target(OUTSIDER)
    place = msgspec.structs.replace(there.place, cgroup=str(lab.cgroup("controller")))
    ends = Counter[str]()
    for _ in range(20):
        done = subprocess.run(
            launcher(place, [sys.executable, "-c", FIRST_THING, str(path), address, str(TCP)]),
            env=there.env,
            capture_output=True,
            text=True,
            check=True,
        )
        *was_open, end = done.stdout.split()
        ends[f"{len(was_open)} {end}"] += 1
        eventually(lambda: not path.joinpath("cgroup.procs").read_text())
    assert ends.keys() <= {"0 EPERM", "1 ECONNABORTED"}, ends
