"""The datapath between real programs: what they see, what policy lets through, what is recorded."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from lab import api
from meshapi.flow import Flow
from nodeagent.datapath import features
from tests.mesh.asking import apply, delete, dial, eventually, flows, send, virtual_addresses
from tests.mesh.programs import EXCHANGE, TCP, UDP, serving

pytestmark = pytest.mark.root


LAB = f"""
apiVersion: lab.hoplite.io/v1alpha1
kind: Lab
spec:
  nodes:
  - name: node1
    workloads:
    - {{name: echo, namespace: shop, serviceAccount: echo, labels: {{app: echo, version: one}},
        {serving("one")}}}
    - {{name: client, namespace: shop, serviceAccount: client, labels: {{app: client}}}}
    - {{name: outsider, namespace: dev, serviceAccount: outsider, labels: {{app: outsider}}}}
    - {{name: host-client, namespace: shop, serviceAccount: host, network: host,
        labels: {{app: client}}}}
  - name: node2
    workloads:
    - {{name: echo, namespace: shop, serviceAccount: echo, labels: {{app: echo, version: two}},
        {serving("two")}}}
    - {{name: vault, namespace: shop, serviceAccount: echo, labels: {{app: vault}},
        {serving("vault")}}}
    - {{name: host-echo, namespace: shop, serviceAccount: echo, labels: {{app: host-echo}},
        network: host,
        {serving("host", 7100, 7101)}}}
    - {{name: far-client, namespace: shop, serviceAccount: client, labels: {{app: client}}}}
    - {{name: far-outsider, namespace: dev, serviceAccount: outsider, labels: {{app: outsider}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: echo, namespace: shop}}
spec:
  selector: {{app: echo}}
  ports: [{{name: tcp, port: 80, targetPort: tcp}},
          {{name: udp, port: 53, protocol: UDP, targetPort: udp}}]
---
apiVersion: v1
kind: Service
metadata: {{name: vault, namespace: shop}}
spec:
  selector: {{app: vault}}
  ports: [{{name: tcp, port: 80, targetPort: tcp}},
          {{name: udp, port: 53, protocol: UDP, targetPort: udp}}]
---
apiVersion: v1
kind: Service
metadata: {{name: host, namespace: shop}}
spec:
  selector: {{app: host-echo}}
  ports: [{{name: tcp, port: 80, targetPort: tcp}},
          {{name: udp, port: 53, protocol: UDP, targetPort: udp}}]
---
apiVersion: v1
kind: Service
metadata: {{name: nobody, namespace: shop}}
spec: {{selector: {{app: nobody}}, ports: [{{port: 80}}]}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: vault, namespace: shop}}
spec:
  podSelector: {{matchLabels: {{app: vault}}}}
  ingress: [{{from: [{{podSelector: {{matchLabels: {{app: client}}}}}}]}}]
"""

HOST_OPEN = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: host-open, namespace: shop}
spec: {podSelector: {matchLabels: {app: host-echo}}, ingress: [{}]}
"""

CLIENT, HOST_CLIENT, OUTSIDER = "node1/shop/client", "node1/shop/host-client", "node1/dev/outsider"
FAR_CLIENT, FAR_OUTSIDER = "node2/shop/far-client", "node2/dev/far-outsider"
FAMILIES = pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str], api.Lab]) -> api.Lab:
    return make_lab(LAB)


# -- load balancing --------------------------------------------------------------------------------


@FAMILIES
@pytest.mark.parametrize("target", [CLIENT, HOST_CLIENT, FAR_CLIENT])
def test_a_service_spreads_connections_and_the_client_sees_what_it_dialled(
    lab: api.Lab, target: str, family: int
) -> None:
    address = virtual_addresses(lab, "shop", "echo")[family]
    found = dial(lab, target, address, 80, 60)
    assert set(found["answers"]) == {"one", "two"}
    assert sum(found["answers"].values()) == 60
    assert min(found["answers"].values()) >= 10  # 30 of 60 but for one chance in a million
    assert found["peers"] == [[address, 80]]


@FAMILIES
@pytest.mark.parametrize("how", ["fresh", "connected"])
def test_datagrams_are_spread_and_answered_from_the_virtual_address(
    lab: api.Lab, how: str, family: int
) -> None:
    address = virtual_addresses(lab, "shop", "echo")[family]
    found = send(lab, CLIENT, address, 53, 40, how)
    assert set(found["answers"]) == {"one", "two"}
    assert sum(found["answers"].values()) == 40
    assert found["peers"] == [[address, 53]]


@FAMILIES
def test_one_unconnected_socket_stays_with_its_backend(lab: api.Lab, family: int) -> None:
    address = virtual_addresses(lab, "shop", "echo")[family]
    for _ in range(4):
        found = send(lab, CLIENT, address, 53, 20, "same")
        assert list(found["answers"].values()) == [20]


# One unconnected socket: sends whenever it is told to and says who seems to have answered.
ASK_ON = """
import socket, sys
address, port = sys.argv[1], int(sys.argv[2])
one = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
one.settimeout(5)
while sys.stdin.readline():
    one.sendto(b"x", (address, port))
    print(*one.recvfrom(99)[1][:2], flush=True)
"""


@FAMILIES
def test_answers_come_from_the_virtual_address_whatever_policies_do(
    lab: api.Lab, family: int
) -> None:
    address = virtual_addresses(lab, "shop", "echo")[family]
    command = [sys.executable, "-c", ASK_ON, address, "53"]
    asking = lab.popen(CLIENT, command, stdin=subprocess.PIPE)
    try:
        assert asking.stdin is not None
        assert asking.stdout is not None
        for change in (lambda: apply(lab, HOST_OPEN), lambda: None):
            asking.stdin.write("go\n")
            asking.stdin.flush()
            assert asking.stdout.readline() == f"{address} 53\n"
            change()
    finally:
        asking.kill()
        asking.wait()
        delete(lab, "networkpolicy", "shop", "host-open")


@FAMILIES
def test_a_host_network_backend_is_reached(lab: api.Lab, family: int) -> None:
    address = virtual_addresses(lab, "shop", "host")[family]
    for target in (CLIENT, FAR_CLIENT, HOST_CLIENT):
        assert dial(lab, target, address, 80)["answers"] == {"host": 1}
        assert send(lab, target, address, 53)["answers"] == {"host": 1}


def test_a_service_reaches_itself(lab: api.Lab) -> None:
    address = virtual_addresses(lab, "shop", "vault")[0]
    apply(lab, VAULT_OPEN_TO_ITSELF)
    assert dial(lab, "node2/shop/vault", address, 80, 5)["answers"] == {"vault": 5}


def test_no_backend_and_no_such_port_are_refused_at_once(lab: api.Lab) -> None:
    refused = "ECONNREFUSED" if "set-retval" in features.probe() else "EPERM"
    nobody = virtual_addresses(lab, "shop", "nobody")[0]
    assert dial(lab, CLIENT, nobody, 80)["answers"] == {refused: 1}
    echo = virtual_addresses(lab, "shop", "echo")[0]
    assert dial(lab, CLIENT, echo, 81)["answers"] == {refused: 1}
    assert send(lab, CLIENT, echo, 54)["answers"] == {refused: 1}
    reasons = {f.reason for f in flows(lab, source="shop/client", verdict="DENY")}
    assert reasons >= {"NO_BACKEND", "SERVICE_PORT_UNKNOWN"}


# -- policy ----------------------------------------------------------------------------------------

VAULT_OPEN_TO_ITSELF = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: vault-self, namespace: shop}
spec:
  podSelector: {matchLabels: {app: vault}}
  ingress: [{from: [{podSelector: {matchLabels: {app: vault}}}]}]
"""


@FAMILIES
@pytest.mark.parametrize(
    ("target", "allowed"),
    [
        (CLIENT, True),
        (FAR_CLIENT, True),
        (HOST_CLIENT, True),
        (OUTSIDER, False),
        (FAR_OUTSIDER, False),
    ],
)
def test_who_may_reach_the_vault(lab: api.Lab, target: str, allowed: bool, family: int) -> None:
    expected = "vault" if allowed else "EPERM"
    virtual = virtual_addresses(lab, "shop", "vault")[family]
    own = lab.workload("node2/shop/vault").addresses[family]
    assert dial(lab, target, virtual, 80)["answers"] == {expected: 1}
    assert dial(lab, target, own, TCP)["answers"] == {expected: 1}
    assert send(lab, target, virtual, 53)["answers"] == {expected: 1}
    assert send(lab, target, own, UDP, how="connected")["answers"] == {expected: 1}


def test_a_refusal_is_recorded_with_its_policy(lab: api.Lab) -> None:
    virtual = virtual_addresses(lab, "shop", "vault")[0]
    dial(lab, OUTSIDER, virtual, 80)
    found = flows(lab, source="dev/outsider", destination="shop/vault", verdict="DENY", last=1)[0]
    assert (found.reason, found.hook, found.state) == ("INGRESS_DENIED", "connect", "denied")
    assert "shop/vault" in found.policy.split(",")
    assert found.rule == "ingress default"
    assert found.service is not None
    assert (found.service.name, found.service.address, found.service.port) == (
        "vault",
        virtual,
        80,
    )
    assert (found.bytes_sent, found.bytes_received) == (0, 0)


def test_the_servers_node_refuses_those_whose_node_did_not_ask(lab: api.Lab) -> None:
    """A process of a node that belongs to no workload: the SYN and the datagram are dropped."""
    own = lab.workload("node2/shop/vault").addresses[0]
    assert dial(lab, "node1", own, TCP)["answers"] == {"EPERM": 1}  # its own node asks for it
    assert dial(lab, "node1", virtual_addresses(lab, "shop", "vault")[0], 80)["answers"] != {
        "vault": 1
    }


def test_egress_closes_what_it_does_not_open(lab: api.Lab) -> None:
    apply(
        lab,
        """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: outsider-egress, namespace: dev}
spec:
  podSelector: {matchLabels: {app: outsider}}
  policyTypes: [Egress]
  egress:
  - to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}},
          podSelector: {matchLabels: {version: one}}}]
    ports: [{port: tcp}]
""",
    )
    one = lab.workload("node1/shop/echo").addresses
    two = lab.workload("node2/shop/echo").addresses
    for family in (0, 1):
        assert dial(lab, OUTSIDER, one[family], TCP)["answers"] == {"one": 1}
        assert dial(lab, OUTSIDER, two[family], TCP)["answers"] == {"EPERM": 1}
        assert send(lab, OUTSIDER, one[family], UDP)["answers"] == {"EPERM": 1}
    found = flows(lab, source="dev/outsider", verdict="DENY", last=1)[0]
    assert (found.reason, found.policy) == ("EGRESS_DENIED", "dev/outsider-egress")


def test_a_changed_policy_is_in_force_for_new_connections(lab: api.Lab) -> None:
    own = lab.workload("node1/shop/echo").addresses[0]
    assert dial(lab, FAR_CLIENT, own, TCP)["answers"] == {"one": 1}
    closed = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: one, namespace: shop}
spec: {podSelector: {matchLabels: {version: one}}, ingress: [%s]}
"""
    apply(lab, closed % "")
    assert dial(lab, FAR_CLIENT, own, TCP)["answers"] == {"EPERM": 1}
    apply(lab, closed % "{}")
    assert dial(lab, FAR_CLIENT, own, TCP)["answers"] == {"one": 1}


# At each word, a datagram from the same unconnected socket; says whom it has heard from.
SAME_SOCKET = """
import socket, sys
end = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
end.settimeout(5)
for _ in sys.stdin:
    end.sendto(b"x", (sys.argv[1], 53))
    print(end.recvfrom(99)[1][0], flush=True)
"""


@FAMILIES
def test_a_changed_policy_changes_no_address_that_is_shown(lab: api.Lab, family: int) -> None:
    """Neither of an unconnected socket that goes on with the backend that it had."""
    address = virtual_addresses(lab, "shop", "echo")[family]
    client = lab.popen(CLIENT, [sys.executable, "-c", SAME_SOCKET, address], subprocess.PIPE)
    assert client.stdin is not None
    assert client.stdout is not None
    for ingress in ("", "{}"):
        client.stdin.write("go\n")
        client.stdin.flush()
        assert client.stdout.readline() == f"{address}\n"
        apply(lab, ELSEWHERE % ingress)
    out, _ = client.communicate("go\n", timeout=10)
    assert out == f"{address}\n"


ELSEWHERE = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: elsewhere, namespace: shop}
spec: {podSelector: {matchLabels: {app: host-echo}}, ingress: [%s]}
"""


# -- telemetry -------------------------------------------------------------------------------------


@FAMILIES
def test_both_ends_count_the_same_payload(lab: api.Lab, family: int) -> None:
    own = lab.workload("node2/shop/echo").addresses[family]
    size = 1_000_003
    done = lab.exec(CLIENT, [sys.executable, "-c", EXCHANGE, own, str(TCP), str(size)])
    assert done.returncode == 0, done.stderr
    greeting = int(done.stdout)

    def both() -> list[Flow]:
        found = flows(lab, source="shop/client", destination="shop/echo", protocol="TCP")
        return [f for f in found if f.bytes_sent + f.bytes_received == 2 * size + greeting]

    eventually(lambda: len(both()) >= 2 * (family + 1))
    ends = {f.direction: f for f in both() if (":" in f.source.address) == bool(family)}
    assert (ends["outbound"].bytes_sent, ends["outbound"].bytes_received) == (
        size,
        size + greeting,
    )
    assert (ends["inbound"].bytes_sent, ends["inbound"].bytes_received) == (size + greeting, size)
    assert ends["outbound"].node == "node1"
    assert ends["inbound"].node == "node2"
    assert ends["outbound"].connect_ms is not None
    assert ends["outbound"].state == "closed"
    assert ends["inbound"].destination.name == "echo-node2"


def test_a_connection_that_nobody_answers_is_a_failed_flow(lab: api.Lab) -> None:
    own = lab.workload("node2/shop/echo").addresses[0]
    assert dial(lab, CLIENT, own, 9)["answers"] == {"ECONNREFUSED": 1}

    def failed() -> bool:
        found = flows(lab, source="shop/client", destination="shop/echo-node2")
        return any(f.state == "failed" and f.destination.port == 9 for f in found)

    eventually(failed)


def test_datagrams_are_counted_on_both_nodes(lab: api.Lab) -> None:
    own = lab.workload("node2/shop/vault").addresses[0]
    assert send(lab, CLIENT, own, UDP, 3, "same")["answers"] == {"vault": 3}
    answer = len("vault:x")

    def counted() -> bool:
        found = flows(lab, source="shop/client", destination="shop/vault", protocol="UDP")
        outbound = [(f.bytes_sent, f.bytes_received) for f in found if f.direction == "outbound"]
        return (3, 3 * answer) in outbound

    eventually(counted)

    def arrived() -> bool:  # the server's socket stays; its record comes when the peer is quiet
        found = flows(lab, source="shop/client", destination="shop/vault", direction="inbound")
        return any(
            (f.protocol, f.bytes_received, f.bytes_sent) == ("UDP", 3, 3 * answer) for f in found
        )

    eventually(arrived, patience=20)


def test_a_host_network_workload_is_known_by_its_cgroup(lab: api.Lab) -> None:
    own = lab.workload("node2/shop/echo").addresses[0]
    assert dial(lab, HOST_CLIENT, own, TCP)["answers"] == {"two": 1}

    def outbound() -> list[Flow]:
        ends = {"source": "shop/host-client", "destination": "shop/echo-node2"}
        return flows(lab, **ends, direction="outbound")

    eventually(lambda: bool(outbound()))
    assert outbound()[-1].source.spiffe_id.endswith("/ns/shop/sa/host")
