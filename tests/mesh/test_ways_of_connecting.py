"""However a program connects or sends: what policy allows goes through, and nothing else does."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import pytest

from lab import api
from tests.mesh.asking import apply, ask_unix, eventually, virtual_addresses
from tests.mesh.programs import serving
from tests.mesh.ways_of_connecting import PROGRAM, TCP, UDP

pytestmark = pytest.mark.root

TCP_PORT, UDP_PORT = 7000, 7000
LAB = f"""
apiVersion: lab.hoplite.io/v1alpha1
kind: Lab
spec:
  nodes:
  - name: node1
    workloads:
    - {{name: client, namespace: shop, labels: {{app: client}}}}
    - {{name: host-client, namespace: shop, network: host, labels: {{app: client}}}}
    - {{name: open, namespace: shop, labels: {{app: open}}, {serving("open", UDP_PORT, UDP_PORT)}}}
  - name: node2
    workloads:
    - {{name: other, namespace: shop, labels: {{app: other}},
        {serving("other", UDP_PORT, UDP_PORT)}}}
    - {{name: closed, namespace: shop, labels: {{app: closed}},
        {serving("closed", UDP_PORT, UDP_PORT)}}}
---
apiVersion: v1
kind: Service
metadata: {{name: open, namespace: shop}}
spec:
  selector: {{app: open}}
  ports: [{{name: tcp, port: {TCP_PORT}}}, {{name: udp, port: {UDP_PORT}, protocol: UDP}}]
---
apiVersion: v1
kind: Service
metadata: {{name: closed, namespace: shop}}
spec:
  selector: {{app: closed}}
  ports: [{{name: tcp, port: {TCP_PORT}}}, {{name: udp, port: {UDP_PORT}, protocol: UDP}}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: closed, namespace: shop}}
spec: {{podSelector: {{matchLabels: {{app: closed}}}}, policyTypes: [Ingress]}}
"""

CLIENT, HOST = "node1/shop/client", "node1/shop/host-client"


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str], api.Lab]) -> api.Lab:
    return make_lab(LAB)


def go(lab: api.Lab, target: str, way: str, *addresses: str) -> str:
    """What comes of connecting or sending to the first address in this way."""
    workload = lab.workload(target)
    node = lab.node(workload.node)
    own4, own6 = workload.addresses or (node.address4, node.address6)
    first, *others = addresses
    program = f"import os; os.environ.update(OWN4={own4!r}, OWN6={own6!r})\n{PROGRAM}"
    done = lab.exec(target, [sys.executable, "-c", program, way, first, str(TCP_PORT), *others])
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("virtual", [False, True], ids=["own", "virtual"])
@pytest.mark.parametrize("target", [CLIENT, HOST], ids=["pod", "host"])
@pytest.mark.parametrize("way", [*TCP, *UDP])
def test_every_way_meets_policy(
    lab: api.Lab, way: str, target: str, virtual: bool, family: int
) -> None:
    if way == "to-device" and target == HOST:
        pytest.skip("a host has another device for each peer")
    if virtual:
        opened, closed = (virtual_addresses(lab, "shop", n)[family] for n in ("open", "closed"))
    else:
        opened = lab.workload("node1/shop/open").addresses[family]
        closed = lab.workload("node2/shop/closed").addresses[family]
    other = lab.workload("node2/shop/other").addresses[family]
    assert go(lab, target, way, opened, other) == "open"
    assert go(lab, target, way, closed, other) == "EPERM"


# Connects to every port there is and prints how often which errno came.
EVERY_PORT = """
import collections, errno, json, socket, sys
found = collections.Counter()
for port in range(1, 65536):
    with socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET) as connection:
        connection.settimeout(5)
        failed = connection.connect_ex((sys.argv[1], port))
        found[errno.errorcode.get(failed, "connected")] += 1
print(json.dumps(found))
"""


def test_every_port_is_decided_and_counted(lab: api.Lab) -> None:
    apply(
        lab,
        """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed-but-some, namespace: shop}
spec:
  podSelector: {matchLabels: {app: closed}}
  ingress: [{ports: [{port: 1000, endPort: 2999}, {port: 65535}, {port: 1}]}]
""",
    )
    own = lab.workload("node2/shop/closed").addresses[0]
    before = told(lab)
    done = lab.exec(CLIENT, [sys.executable, "-c", EVERY_PORT, own])
    assert json.loads(done.stdout) == {"ECONNREFUSED": 2002, "EPERM": 65535 - 2002}
    refused = 65535 - 2002
    # When the table of pairs is full, the connection to the last port is one of those not counted.
    eventually(lambda: told(lab) - before in {refused, refused + 1})


def told(lab: api.Lab) -> int:
    """Refusals that node1 has counted, over all pairs, and those that it says it could not."""
    total = 0.0
    for line in ask_unix(lab.agent_socket("node1"), "/metrics").splitlines():
        counted = line.startswith("hoplite_connections_total") and 'event="denied"' in line
        if counted or line.startswith('hoplite_agent_lost_total{kind="pair"}'):
            total += float(line.rpartition(" ")[2])
    return int(total)
