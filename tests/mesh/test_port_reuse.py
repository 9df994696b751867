"""Two host-network workloads of one node, one allowed and one refused, share their source ports."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from lab import api
from tests.mesh.asking import dial, eventually, flows
from tests.mesh.programs import TCP, UDP, serving

pytestmark = pytest.mark.root

ROUNDS = 400

LAB = f"""
apiVersion: lab.hoplite.io/v1alpha1
kind: Lab
spec:
  nodes:
  - name: node1
    workloads:
    - {{name: allowed, namespace: shop, serviceAccount: allowed, network: host,
        labels: {{app: client}}}}
    - {{name: refused, namespace: shop, serviceAccount: refused, network: host,
        labels: {{app: other}}}}
    - {{name: near, namespace: shop, serviceAccount: vault, labels: {{app: vault}},
        {serving("vault")}}}
  - name: node2
    workloads:
    - {{name: far, namespace: shop, serviceAccount: vault, labels: {{app: vault}},
        {serving("vault")}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: vault, namespace: shop}}
spec:
  podSelector: {{matchLabels: {{app: vault}}}}
  policyTypes: [Ingress, Egress]
  ingress: [{{from: [{{podSelector: {{matchLabels: {{app: client}}}}}}]}}]
  egress: [{{to: [{{podSelector: {{matchLabels: {{app: client}}}}}}]}}]
"""
# (Otherwise an answer to the one whose port the other has by now would begin an exchange with it.)

# Begins ROUNDS connections (or connected or unconnected exchanges) from four ports by turns and
# prints what became of how many. Ports that the other one has just now are not an outcome.
HAMMER = """
import collections, errno, json, socket, struct, sys
how, address, port, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
kind = socket.SOCK_STREAM if how == "tcp" else socket.SOCK_DGRAM
busy = {errno.EADDRINUSE, errno.EADDRNOTAVAIL}
found = collections.Counter()
print("ready", flush=True)
sys.stdin.readline()
for turn in range(rounds):
    with socket.socket(family, kind) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if how == "tcp":  # leaves no TIME_WAIT behind
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.settimeout(3)
        try:
            one.bind(("", 20500 + turn % 4))
            if how == "sendto":
                one.sendto(b"x", (address, port))
                found["sent"] += 1
                continue
            one.connect((address, port))
            if how == "udp":
                one.send(b"x")
            found[one.recv(99).decode().partition(":")[0]] += 1
        except OSError as error:
            if error.errno not in busy:
                found[errno.errorcode.get(error.errno or 0, type(error).__name__)] += 1
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str], api.Lab]) -> api.Lab:
    """The lab, when its nodes have the keys that tell workloads of one address apart."""
    made = make_lab(LAB)
    for address in made.workload("node2/shop/far").addresses:
        eventually(lambda to=address: _answers(made, to) == {"vault": 1})
    return made


def _answers(lab: api.Lab, address: str) -> dict[str, int]:
    found: dict[str, int] = dial(lab, "node1/shop/allowed", address, TCP)["answers"]
    return found


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(
    ("how", "server", "outcome"),
    [
        ("tcp", "node1/shop/near", "vault"),
        ("tcp", "node2/shop/far", "vault"),
        ("udp", "node1/shop/near", "vault"),
        ("sendto", "node1/shop/near", "sent"),
    ],
)
def test_a_port_that_another_workload_had_gives_nothing_and_takes_nothing(
    lab: api.Lab, how: str, server: str, outcome: str, family: int
) -> None:
    address = lab.workload(server).addresses[family]
    port = TCP if how == "tcp" else UDP
    words = [sys.executable, "-c", HAMMER, how, address, str(port), str(ROUNDS)]
    both = [
        lab.popen(f"node1/shop/{who}", words, stdin=subprocess.PIPE)
        for who in ("allowed", "refused")
    ]
    try:
        for one in both:
            assert one.stdout is not None
            assert one.stdout.readline() == "ready\n"
        for one in both:
            assert one.stdin is not None
            one.stdin.write("go\n")
            one.stdin.flush()
        allowed, refused = (json.loads(one.communicate(timeout=120)[0]) for one in both)
    finally:
        for one in both:
            one.kill()
            one.wait()
    assert set(allowed) == {outcome}
    assert allowed[outcome] > ROUNDS // 2
    assert set(refused) == {"EPERM"}
    assert flows(lab, source="shop/refused", verdict="ALLOW") == []
