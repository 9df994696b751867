"""What has to hold on every kernel, small enough for an emulated one: see tests/kernels.

Two nodes; services and addresses, TCP and UDP, IPv4 and IPv6; a policy with clients that it lets in
and others that it does not; an agent that is killed and comes back.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from lab import api
from lab.restart import kill, start_agent
from nodeagent.datapath import features
from tests.mesh.asking import (
    apply,
    ask_agent,
    ask_unix,
    delete,
    eventually,
    flows,
    virtual_addresses,
)
from tests.mesh.interfaces_world import outside
from tests.mesh.test_agent_survival import CLOSED
from tests.mesh.test_datapath import LAB
from tests.mesh.test_established import held

pytestmark = pytest.mark.root

NEAR, FAR = "node1/shop/client", "node2/shop/far-client"
OUTSIDER, FAR_OUTSIDER = "node1/dev/outsider", "node2/dev/far-outsider"
HOST = "node1/shop/host-client"

# Tries every [protocol, address, port] of a list given as JSON, in one process, because starting
# one is what takes long here; prints who answered or the errno, in the same order.
TRY = """
import errno, json, socket, sys
found = []
for protocol, address, port in json.loads(sys.argv[1]):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(family, kind) as peer:
        peer.settimeout(10)
        try:
            if protocol == "tcp":
                peer.connect((address, port))
            else:
                peer.sendto(b"x", (address, port))
            data, sender = peer.recvfrom(99)
            name = peer.getpeername() if protocol == "tcp" else sender
            assert name[:2] == (address, port), name
            found.append(data.decode().partition(":")[0])
        except OSError as error:
            found.append(errno.errorcode.get(error.errno or 0, type(error).__name__))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str], api.Lab]) -> api.Lab:
    return make_lab(LAB)


def attempt(lab: api.Lab, target: str, places: list[tuple[str, str, int]]) -> list[str]:
    """Who answered at each place, or why nobody did."""
    done = lab.exec(target, [sys.executable, "-c", TRY, json.dumps(places)], timeout=300)
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    return found


def vault(lab: api.Lab) -> list[tuple[str, str, int]]:
    """The vault's virtual and own addresses, by both protocols and families."""
    virtual = virtual_addresses(lab, "shop", "vault")
    own = lab.workload("node2/shop/vault").addresses
    return [
        *(("tcp", address, 80) for address in virtual),
        *(("udp", address, 53) for address in virtual),
        *(("tcp", address, 7000) for address in own),
        *(("udp", address, 7001) for address in own),
    ]


@pytest.mark.parametrize("target", [NEAR, FAR, HOST])
def test_whoever_the_policy_names_gets_in(lab: api.Lab, target: str) -> None:
    assert attempt(lab, target, vault(lab)) == ["vault"] * 8


@pytest.mark.parametrize("target", [OUTSIDER, FAR_OUTSIDER])
def test_nobody_else_does(lab: api.Lab, target: str) -> None:
    assert attempt(lab, target, vault(lab)) == ["EPERM"] * 8


def test_what_skips_the_hooks_is_held_to_policy_too(lab: api.Lab) -> None:
    """A process that is in a pod's network, but not in its cgroup."""
    own4, own6 = lab.workload("node2/shop/vault").addresses
    places = json.dumps([("tcp", own4, 7000), ("tcp", own6, 7000), ("udp", own4, 7001)])
    for target, expected in ((NEAR, ["vault"] * 3), (OUTSIDER, ["TimeoutError"] * 3)):
        done = outside(lab.workload(target).netns, [sys.executable, "-c", TRY, places])
        assert json.loads(done.stdout) == expected, done
    found = flows(lab, source="dev/outsider", destination="shop/vault", verdict="DENY")
    assert ("veth", "INGRESS_DENIED", "shop/vault") in {(f.hook, f.reason, f.policy) for f in found}


def test_a_service_is_spread_over_its_backends(lab: api.Lab) -> None:
    four, six = virtual_addresses(lab, "shop", "echo")
    places = [*[("tcp", four, 80)] * 20, *[("udp", six, 53)] * 20]
    assert set(attempt(lab, NEAR, places)) == {"one", "two"}


def test_what_cannot_be_reached_is_refused_at_once(lab: api.Lab) -> None:
    nobody = virtual_addresses(lab, "shop", "nobody")
    expected = "ECONNREFUSED" if "set-retval" in features.probe() else "EPERM"
    assert attempt(lab, NEAR, [("tcp", address, 80) for address in nobody]) == [expected] * 2


def test_connections_are_recorded_at_both_ends(lab: api.Lab) -> None:
    own = lab.workload("node2/shop/vault").addresses[0]
    attempt(lab, NEAR, [("tcp", own, 7000), ("udp", own, 7001)])

    def seen() -> set[tuple[str, str, int]]:
        found = flows(lab, source="shop/client", destination="shop/vault", verdict="ALLOW")
        return {(f.protocol, f.direction, f.bytes_received) for f in found}

    vaults = len("vault")
    eventually(lambda: ("TCP", "outbound", vaults) in seen(), patience=20)
    eventually(lambda: ("TCP", "inbound", 0) in seen(), patience=20)
    eventually(lambda: ("UDP", "outbound", vaults + 2) in seen(), patience=20)


def test_a_refusal_is_recorded_with_its_policy(lab: api.Lab) -> None:
    own = lab.workload("node2/shop/vault").addresses[1]
    assert attempt(lab, OUTSIDER, [("tcp", own, 7000)]) == ["EPERM"]
    found = flows(lab, source="dev/outsider", destination="shop/vault", verdict="DENY", last=1)
    assert [(f.reason, f.policy) for f in found] == [("INGRESS_DENIED", "shop/vault")]


def test_an_open_connection_ends_when_policy_refuses_it(lab: api.Lab) -> None:
    own = lab.workload("node1/shop/echo").addresses[0]
    with held(lab, FAR, own, 7000) as connection:
        apply(lab, CLOSED)
        connection.wait(timeout=60)
        assert connection.stdout is not None
        assert connection.stdout.read().strip() in {"ECONNABORTED", "ECONNRESET"}
    delete(lab, "networkpolicy", "shop", "nobody-in")


def test_every_node_says_what_its_kernel_can_do(lab: api.Lab) -> None:
    said = features.describe(features.probe())

    def reported() -> list[dict[str, Any]]:
        nodes = json.loads(hopctl(lab, "get", "nodes", "-o", "json"))
        return [node["status"].get("features", {}) for node in nodes["items"]]

    assert reported() == [said, said]


def test_policy_holds_while_an_agent_is_away_and_its_successor_finds_it_right(
    lab: api.Lab,
) -> None:
    kill(lab, "node1", "hoplite-agent")
    assert attempt(lab, NEAR, vault(lab)[:1]) == ["vault"]
    assert attempt(lab, OUTSIDER, vault(lab)[:1]) == ["EPERM"]
    start_agent(lab, "node1")
    words = lab.log("node1/agent").split("stored state in force")
    assert len(words) == 2, "the stored state was in force before the controller was reached"
    assert words[0].count("datapath compiled") == 1, "the pinned programs are used as they are"
    assert "kernel maps changed" not in words[1], "a successor writes nothing"
    assert attempt(lab, OUTSIDER, vault(lab)[:1]) == ["EPERM"]
    assert ask_agent(lab, "node1", "/config_dump")["inForce"]["problems"] == []
    assert "hoplite_agent_connected" in ask_unix(lab.agent_socket("node1"), "/metrics")


def hopctl(lab: api.Lab, *words: str) -> str:

    done = subprocess.run(
        [sys.executable, "-m", "hopctl", *words],
        env={**os.environ, **lab.env},
        text=True,
        check=False,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
