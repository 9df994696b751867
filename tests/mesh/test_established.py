"""Connections that are open when policy changes: cut, kept or drained, and told why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from lab import api
from lab.restart import processes
from tests.mesh.asking import (
    apply,
    ask_agent,
    ask_unix,
    delete,
    dial,
    eventually,
    flows,
    send,
    virtual_addresses,
)
from tests.mesh.holding import held, last_word
from tests.mesh.programs import TCP, UDP, answering, serving

pytestmark = pytest.mark.root

LAB = f"""
apiVersion: lab.hoplite.io/v1alpha1
kind: Lab
spec:
  nodes:
  - name: node1
    workloads:
    - {{name: client, namespace: shop, serviceAccount: client, labels: {{app: client}}}}
    - {{name: host-client, namespace: shop, serviceAccount: host, network: host,
        labels: {{app: host-client}}}}
    - {{name: near, namespace: shop, labels: {{app: near}}, {serving("near")}}}
  - name: node2
    workloads:
    - {{name: far, namespace: shop, labels: {{app: far}}, {serving("far")}}}
    - {{name: far-host, namespace: shop, labels: {{app: far-host}}, network: host,
        ports: [{{name: tcp, port: 7100}}], {answering("far-host", 7100, 7101)}}}
---
apiVersion: v1
kind: Service
metadata: {{name: far, namespace: shop}}
spec: {{selector: {{app: far}}, ports: [{{name: tcp, port: 80, targetPort: tcp}}]}}
"""

CLOSED = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: {name}, namespace: shop, annotations: {annotations}}}
spec: {{podSelector: {{matchLabels: {{app: {app}}}}}, ingress: [{ingress}]}}
"""


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str], api.Lab]) -> api.Lab:
    return make_lab(LAB)


@contextmanager
def policy(lab: api.Lab, app: str, ingress: str = "", **annotations: str) -> Iterator[str]:
    """A NetworkPolicy that closes an app's ingress but for ``ingress``; deleted afterwards."""
    notes = ", ".join(f'"mesh.hoplite.io/{k}": "{v}"' for k, v in annotations.items())
    name = f"closed-{app}"
    apply(lab, CLOSED.format(name=name, app=app, ingress=ingress, annotations=f"{{{notes}}}"))
    try:
        yield f"shop/{name}"
    finally:
        delete(lab, "networkpolicy", "shop", name)


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(
    ("client", "server"),
    [
        ("node1/shop/client", "node1/shop/near"),
        ("node1/shop/client", "node2/shop/far"),
        ("node1/shop/host-client", "node2/shop/far"),
        ("node1/shop/client", "node2/shop/far-host"),
    ],
)
def test_a_connection_that_is_refused_now_is_cut(
    lab: api.Lab, client: str, server: str, family: int
) -> None:
    workload = lab.workload(server)
    name = workload.name.removesuffix("-node2")
    port = 7100 if name == "far-host" else TCP
    node = next(n for n in lab.record.plan.nodes if n.name == workload.node)
    addresses = workload.addresses or (node.address4, node.address6)
    with held(lab, client, addresses[family], port) as connection, policy(lab, name) as closing:
        assert last_word(connection) in {"ECONNABORTED", "ECONNRESET"}
        eventually(lambda: bool(cut_flows(lab, name)))
        found = cut_flows(lab, name)[-1]
        assert (found.reason, found.policy) == ("INGRESS_DENIED", closing)
        assert found.verdict == "ALLOW"


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("how", ["UDP", "UDP-unconnected"])
@pytest.mark.parametrize(
    ("client", "server"),
    [
        ("node1/shop/client", "node1/shop/near"),
        ("node1/shop/client", "node2/shop/far"),
        ("node1/shop/host-client", "node2/shop/far"),
    ],
)
def test_a_socket_that_sends_datagrams_is_refused_in_the_middle(
    lab: api.Lab, client: str, server: str, how: str, family: int
) -> None:
    workload = lab.workload(server)
    address = workload.addresses[family]
    with held(lab, client, address, UDP, how) as exchange, policy(lab, workload.name) as closing:
        assert last_word(exchange) == "EPERM"
        ends = {"source": f"shop/{client.rpartition('/')[2]}", "verdict": "DENY", "last": 1}
        found = flows(lab, **ends, protocol="UDP", direction="outbound")[0]
        assert (found.reason, found.policy) == ("INGRESS_DENIED", closing)
        assert found.hook == ("egress" if how == "UDP" else "sendmsg")


def cut_flows(lab: api.Lab, server: str) -> list:
    return [f for f in flows(lab, destination=f"shop/{server}") if f.state == "cut"]


def test_a_virtual_address_makes_no_difference(lab: api.Lab) -> None:
    address = virtual_addresses(lab, "shop", "far")[0]
    with held(lab, "node1/shop/client", address, 80) as connection, policy(lab, "far"):
        assert last_word(connection) in {"ECONNABORTED", "ECONNRESET"}


def test_who_is_still_allowed_is_not_disturbed(lab: api.Lab) -> None:
    address = lab.workload("node2/shop/far").addresses[0]
    allowed = "{from: [{podSelector: {matchLabels: {app: client}}}]}"
    with held(lab, "node1/shop/client", address, TCP) as connection, policy(lab, "far", allowed):
        time.sleep(1.5)
        assert connection.poll() is None


def test_keep_keeps(lab: api.Lab) -> None:
    address = lab.workload("node2/shop/far").addresses[0]
    with (
        held(lab, "node1/shop/client", address, TCP) as connection,
        policy(lab, "far", established="keep"),
    ):
        assert dial(lab, "node1/shop/client", address, TCP)["answers"] == {"EPERM": 1}
        time.sleep(1.5)
        assert connection.poll() is None


def test_drain_gives_time(lab: api.Lab) -> None:
    address = lab.workload("node2/shop/far").addresses[0]
    with (
        held(lab, "node1/shop/client", address, TCP) as connection,
        policy(lab, "far", established="drain 2"),
    ):
        time.sleep(1)
        assert connection.poll() is None
        assert last_word(connection) in {"ECONNABORTED", "ECONNRESET"}


def test_the_number_is_reported(lab: api.Lab) -> None:
    """Once for a connection of which both ends are here, and not with an earlier policy's."""
    address = lab.workload("node1/shop/near").addresses[0]
    with held(lab, "node1/shop/client", address, TCP) as connection, policy(lab, "near") as name:
        last_word(connection)
        line = f'hoplite_connections_cut_total{{policy="{name}",policy_kind="NetworkPolicy"}}'
        eventually(lambda: line in ask_unix(lab.agent_socket("node1"), "/metrics"))
        words = ("get", "networkpolicy", name.rpartition("/")[2], "-n", "shop", "-o", "json")
        eventually(lambda: json.loads(_hopctl(lab, *words))["status"].get("connectionsCut") == 1)


def _hopctl(lab: api.Lab, *words: str) -> str:
    command = [sys.executable, "-m", "hopctl", *words]
    done = subprocess.run(command, env={**os.environ, **lab.env}, capture_output=True, check=True)
    return done.stdout.decode()


@pytest.fixture
def quarantined(lab: api.Lab) -> Iterator[Callable[..., None]]:
    """Quarantines shop/far from the command line; lifts it in the end."""

    def quarantine(*words: str) -> None:
        _hopctl(lab, "quarantine", "shop/far", *words, "--wait")

    yield quarantine
    if "shop/far is quarantined" in _hopctl(lab, "quarantine", "shop/far"):
        quarantine("--lift")


def test_a_quarantine_ends_all_that_is_open_in_both_directions(
    lab: api.Lab, quarantined: Callable[..., None]
) -> None:
    """And its processes run on, and can be looked at from within."""
    far, near = lab.workload("node2/shop/far"), lab.workload("node1/shop/near")
    before = processes(lab, "node2", far.cgroup)
    with ExitStack() as stack:
        open_ones = [
            stack.enter_context(held(lab, client, address, port, how))
            for client, addresses in (
                ("node1/shop/client", far.addresses),
                ("node1/shop/host-client", far.addresses),
                ("node2/shop/far", near.addresses),
            )
            for address in addresses
            for how, port in (("TCP", TCP), ("UDP", UDP))
        ]
        quarantined("--reason", "odd traffic")
        for connection in open_ones:
            assert last_word(connection) in {"ECONNABORTED", "ECONNRESET", "EPERM"}
    assert set(before) <= set(processes(lab, "node2", far.cgroup))
    for family, loopback in enumerate(("127.0.0.1", "::1")):
        assert dial(lab, "node2/shop/far", loopback, TCP)["answers"] == {"far": 1}
        assert dial(lab, "node2/shop/far", near.addresses[family], TCP)["answers"] == {"EPERM": 1}
        assert dial(lab, "node1/shop/client", far.addresses[family], TCP)["answers"] == {"EPERM": 1}
        assert send(lab, "node1/shop/client", far.addresses[family], UDP)["answers"] == {"EPERM": 1}
    quarantined("--lift")
    assert dial(lab, "node2/shop/far", near.addresses[0], TCP)["answers"] == {"near": 1}
    assert dial(lab, "node1/shop/client", far.addresses[0], TCP)["answers"] == {"far": 1}


def test_a_quarantine_lets_in_whom_it_names(lab: api.Lab, quarantined: Callable[..., None]) -> None:
    quarantined("--allow-from", "shop/client")
    for address in lab.workload("node2/shop/far").addresses:
        for ask, port in ((dial, TCP), (send, UDP)):
            assert ask(lab, "node1/shop/client", address, port)["answers"] == {"far": 1}
            assert ask(lab, "node1/shop/host-client", address, port)["answers"] == {"EPERM": 1}


def test_a_quarantine_is_seen_everywhere(lab: api.Lab, quarantined: Callable[..., None]) -> None:
    address = lab.workload("node2/shop/far").addresses[0]
    with held(lab, "node1/shop/client", address, TCP) as connection:
        quarantined()
        last_word(connection)
    dial(lab, "node1/shop/client", address, TCP)
    send(lab, "node2/shop/far", lab.workload("node1/shop/near").addresses[1], UDP)
    denied = flows(lab, verdict="DENY", last=2)
    assert {(f.direction, f.reason, f.policy_kind, f.policy) for f in denied} == {
        ("outbound", "QUARANTINED", "Quarantine", "shop/far")
    }
    assert {f.source.name for f in denied} == {"client", "far"}
    (row,) = (x for x in _hopctl(lab, "get", "workloads").splitlines() if " far " in x)
    assert "True QUARANTINED" in row
    (row,) = (x for x in _hopctl(lab, "get", "nodes", "-o", "wide").splitlines() if "node2" in x)
    assert "shop/far" in row

    def cut() -> bool:
        shown = json.loads(_hopctl(lab, "get", "quarantine", "far", "-n", "shop", "-o", "json"))
        conditions = {c["type"]: c["status"] for c in shown["status"]["conditions"]}
        return conditions["Programmed"] == "True" and shown["status"].get("connectionsCut", 0) > 0

    eventually(cut)
    for node in ("node1", "node2"):
        dump = ask_agent(lab, node, "/config_dump")
        assert "Quarantine" in {o["kind"] for o in dump["objects"]}
        metrics = ask_unix(lab.agent_socket(node), "/metrics")
        assert 'reason="QUARANTINED"' in metrics
    line = 'hoplite_connections_cut_total{policy="shop/far",policy_kind="Quarantine"}'
    assert line in ask_unix(lab.agent_socket("node1"), "/metrics")
