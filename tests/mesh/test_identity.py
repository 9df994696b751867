"""Identities in SYNs between real programs of two nodes: who is told apart, believed, refused."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from msgspec.structs import replace

from lab import api, netns
from lab.succession import paused
from meshapi.flow import Flow
from meshapi.identity import claim
from meshapi.resources import Workload, by_word
from tests.mesh.asking import (
    apply,
    ask_agent,
    delete,
    dial,
    eventually,
    flows,
    send,
    virtual_addresses,
)
from tests.mesh.programs import TCP, UDP, serving
from tests.mesh.tags import wait_until_tagged
from tests.mesh.ways_of_connecting import PROGRAM

pytestmark = pytest.mark.root


# The vault lets in whoever is labelled so; the safe only who can prove it.
LAB = f"""
apiVersion: lab.hoplite.io/v1alpha1
kind: Lab
spec:
  nodes:
  - name: node1
    workloads:
    - {{name: client, namespace: shop, serviceAccount: client, labels: {{app: client}}}}
    - {{name: backup, namespace: shop, serviceAccount: backup, network: host,
        labels: {{app: client}}}}
    - {{name: browser, namespace: shop, serviceAccount: browser, network: host,
        labels: {{app: browser}}}}
    - {{name: back, namespace: shop, labels: {{app: back}}, {serving("back")}}}
  - name: node2
    workloads:
    - {{name: echo, namespace: shop, labels: {{app: echo}}, {serving("echo")}}}
    - {{name: vault, namespace: shop, labels: {{app: vault}}, {serving("vault")}}}
    - {{name: safe, namespace: shop, labels: {{app: safe}}, {serving("safe")}}}
    - {{name: host-safe, namespace: shop, labels: {{app: safe}}, network: host,
        {serving("host-safe", 7100, 7101)}}}
    - {{name: near, namespace: shop, serviceAccount: client, labels: {{app: client}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: safe, namespace: shop}}
spec:
  selector: {{app: safe, lab.hoplite.io/workload: safe}}
  ports: [{{name: tcp, port: 80, targetPort: tcp}}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: vault, namespace: shop}}
spec:
  podSelector: {{matchLabels: {{app: vault}}}}
  ingress: [{{from: [{{podSelector: {{matchLabels: {{app: client}}}}}}]}}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: safe, namespace: shop, annotations: {{mesh.hoplite.io/identity: strict}}}}
spec:
  podSelector: {{matchLabels: {{app: safe}}}}
  ingress: [{{from: [{{podSelector: {{matchLabels: {{app: client}}}}}}]}}]
"""

CLIENT, BACKUP, BROWSER = "node1/shop/client", "node1/shop/backup", "node1/shop/browser"
NEAR, SAFE, VAULT = "node2/shop/near", "node2/shop/safe", "node2/shop/vault"
FAMILIES = pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str], api.Lab]) -> api.Lab:
    made = make_lab(LAB)
    wait_until_tagged(made)
    return made


def recorded(lab: api.Lab, source: str, destination: str, direction: str) -> list[Flow]:
    return flows(lab, source=source, destination=destination, direction=direction)


# -- who calls -------------------------------------------------------------------------------------


@FAMILIES
@pytest.mark.parametrize("target", [CLIENT, BACKUP])
def test_a_caller_is_named_by_the_servers_node_and_known_to_be_that(
    lab: api.Lab, target: str, family: int
) -> None:
    own = lab.workload(SAFE).addresses[family]
    virtual = virtual_addresses(lab, "shop", "safe")[family]
    name = target.rpartition("/")[2]
    before = len(recorded(lab, f"shop/{name}", "shop/safe", "inbound"))
    assert dial(lab, target, own, TCP)["answers"] == {"safe": 1}
    assert dial(lab, target, virtual, 80)["answers"] == {"safe": 1}
    eventually(lambda: len(recorded(lab, f"shop/{name}", "shop/safe", "inbound")) >= before + 2)
    for found in recorded(lab, f"shop/{name}", "shop/safe", "inbound")[before:]:
        assert found.authenticated
        assert (found.node, found.source.node) == ("node2", "node1")
        assert found.source.spiffe_id.endswith(f"/ns/shop/sa/{name}")
        assert (found.reason, found.policy) == ("POLICY_ALLOW", "shop/safe")
    sent = recorded(lab, f"shop/{name}", "shop/safe", "outbound")
    assert all(flow.authenticated for flow in sent)


def test_a_v4_mapped_socket_is_as_good_as_another(lab: api.Lab) -> None:
    own = lab.workload(SAFE).addresses[0]
    assert dial(lab, CLIENT, f"::ffff:{own}", TCP)["answers"] == {"safe": 1}


def test_a_host_network_server_is_reached_by_its_nodes_address(lab: api.Lab) -> None:
    node = lab.node("node2")
    for address in (node.address4, node.address6):
        assert dial(lab, CLIENT, address, 7100)["answers"] == {"host-safe": 1}
        assert dial(lab, BACKUP, address, 7100)["answers"] == {"host-safe": 1}
        assert dial(lab, BROWSER, address, 7100)["answers"] == {"EPERM": 1}


@FAMILIES
def test_two_workloads_of_one_address_are_told_apart_by_their_labels(
    lab: api.Lab, family: int
) -> None:
    """By its address alone neither could be let in, since not both may."""
    own = lab.workload(VAULT).addresses[family]
    assert dial(lab, BACKUP, own, TCP)["answers"] == {"vault": 1}
    assert dial(lab, BROWSER, own, TCP)["answers"] == {"EPERM": 1}


def test_two_workloads_of_one_address_are_told_apart_by_their_principals(lab: api.Lab) -> None:
    own = lab.workload("node2/shop/echo").addresses
    apply(
        lab,
        """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: echo, namespace: shop}
spec:
  selector: {matchLabels: {app: echo}}
  rules: [{from: [{source: {principals: [hoplite.local/ns/shop/sa/browser]}}]}]
""",
    )
    for address in own:
        assert dial(lab, BROWSER, address, TCP)["answers"] == {"echo": 1}
        assert dial(lab, BACKUP, address, TCP)["answers"] == {"EPERM": 1}


@FAMILIES
def test_datagrams_of_a_shared_address_are_let_in_if_all_of_its_workloads_are(
    lab: api.Lab, family: int
) -> None:
    """A datagram has no SYN: the browser might have sent it."""
    own = lab.workload(VAULT).addresses[family]
    assert send(lab, BACKUP, own, UDP)["answers"] == {"TimeoutError": 1}
    eventually(
        lambda: any(
            (f.hook, f.reason) == ("ingress", "INGRESS_DENIED")
            for f in flows(lab, destination="shop/vault", verdict="DENY", protocol="UDP")
        )
    )
    apply(lab, VAULT_FOR % "{key: app, operator: In, values: [client, browser]}")
    try:
        assert send(lab, BACKUP, own, UDP)["answers"] == {"vault": 1}
    finally:
        apply(lab, VAULT_FOR % "{key: app, operator: In, values: [client]}")


VAULT_FOR = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: vault, namespace: shop}
spec:
  podSelector: {matchLabels: {app: vault}}
  ingress: [{from: [{podSelector: {matchExpressions: [%s]}}]}]
"""


def test_only_syns_carry_it(lab: api.Lab) -> None:
    """Everything after the handshake costs what it did."""
    own = lab.workload(SAFE).addresses[0]
    sniffer = lab.popen("node1", [sys.executable, "-c", SNIFF, own])
    assert sniffer.stdout is not None
    assert sniffer.stdout.readline() == "listening\n"
    done = lab.exec(CLIENT, [sys.executable, "-c", TALK, own, str(TCP)])
    assert done.returncode == 0, done.stderr
    out, _ = sniffer.communicate(timeout=20)
    seen = json.loads(out)
    assert seen["syns"] == seen["tagged"] == 1
    assert seen["others"] >= 5
    assert seen["others_tagged"] == 0


# Reads what leaves by eth0 to an address until a FIN: how many SYNs and others, how many tagged.
SNIFF = """
import json, socket, sys
found = {"syns": 0, "tagged": 0, "others": 0, "others_tagged": 0}
wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
wire.bind(("eth0", 3))
wire.settimeout(10)
print("listening", flush=True)
while True:
    packet = wire.recv(65536)
    if packet[0] != 0x45 or packet[9] != 6 or packet[16:20] != socket.inet_aton(sys.argv[1]):
        continue
    tcp = packet[20:]
    last = tcp[20:(tcp[12] >> 4) * 4][-16:]
    syn, tagged = bool(tcp[13] & 2), last.hex().startswith("fd10485")
    found["syns" if syn else "others"] += 1
    if tagged:
        found["tagged" if syn else "others_tagged"] += 1
    if tcp[13] & 1:
        break
print(json.dumps(found))
"""

TALK = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5) as connection:
    connection.recv(99)
    for _ in range(5):
        connection.sendall(b"x")
        connection.recv(1)
"""


# -- strictness ------------------------------------------------------------------------------------


@FAMILIES
def test_a_strict_policy_refuses_who_cannot_prove_who_it_is_at_once(
    lab: api.Lab, family: int
) -> None:
    """A process of the other node that is no workload, and datagrams, which have no SYN."""
    own = lab.workload(SAFE).addresses[family]
    assert dial(lab, "node1", own, TCP)["answers"] == {"EPERM": 1}
    assert send(lab, CLIENT, own, UDP)["answers"] == {"EPERM": 1}
    assert send(lab, CLIENT, own, UDP, how="connected")["answers"] == {"EPERM": 1}
    reasons = {f.reason for f in flows(lab, source="shop/client", verdict="DENY", protocol="UDP")}
    assert reasons == {"IDENTITY_REQUIRED"}


@FAMILIES
def test_a_strict_policy_lets_in_callers_of_its_own_node(lab: api.Lab, family: int) -> None:
    own = lab.workload(SAFE).addresses[family]
    virtual = virtual_addresses(lab, "shop", "safe")[family]
    assert dial(lab, NEAR, own, TCP)["answers"] == {"safe": 1}
    assert dial(lab, NEAR, virtual, 80)["answers"] == {"safe": 1}
    assert send(lab, NEAR, own, UDP, 3, "same")["answers"] == {"safe": 3}
    assert send(lab, NEAR, own, UDP, 3, "connected")["answers"] == {"safe": 3}
    host = (lab.node("node2").address4, lab.node("node2").address6)[family]
    assert dial(lab, NEAR, host, 7100)["answers"] == {"host-safe": 1}


def test_a_strict_policy_refuses_one_that_it_names_not_though_proved(lab: api.Lab) -> None:
    own = lab.workload(SAFE).addresses[0]
    assert dial(lab, BROWSER, own, TCP)["answers"] == {"EPERM": 1}


# -- unusual SYNs ----------------------------------------------------------------------------------

FAST_OPEN = """
import json, socket, struct, sys
answers = []
for _ in range(3):
    s = socket.socket()
    for which in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        s.setsockopt(socket.SOL_SOCKET, which, struct.pack("ll", 4, 0))
    try:
        s.sendto(b"x", socket.MSG_FASTOPEN, (sys.argv[1], int(sys.argv[2])))
        answers.append(s.recv(99).decode()[:4])
    except OSError as error:
        answers.append(type(error).__name__)
    s.close()
print(json.dumps(answers))
"""

FAST_OPEN_SERVER = """
import socket, threading
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
listener.bind(("", 7200))
listener.listen(16)
print("listening", flush=True)
def serve(connection):
    with connection:
        while connection.recv(9):
            connection.sendall(b"fast")
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


@contextmanager
def fast_open_server(lab: api.Lab, target: str) -> Iterator[str]:
    enable = ["sh", "-c", "echo 3 >/proc/sys/net/ipv4/tcp_fastopen"]
    for end in (CLIENT, target):
        done = lab.exec(end, enable)
        assert done.returncode == 0, done.stderr
    server = lab.popen(target, [sys.executable, "-c", FAST_OPEN_SERVER])
    assert server.stdout is not None
    assert server.stdout.readline() == "listening\n"
    try:
        yield lab.workload(target).addresses[0]
    finally:
        server.terminate()
        server.wait()


def test_a_fast_open_cookie_leaves_no_room_and_the_address_decides(lab: api.Lab) -> None:
    with fast_open_server(lab, VAULT) as address:
        done = lab.exec(CLIENT, [sys.executable, "-c", FAST_OPEN, address, "7200"])
        assert json.loads(done.stdout) == ["fast"] * 3, done.stderr

    def both_kinds() -> bool:
        found = recorded(lab, "shop/client", "shop/vault", "inbound")
        kinds = [f.authenticated for f in found if f.destination.port == 7200]
        return True in kinds and False in kinds

    eventually(both_kinds)


def test_where_identities_are_required_a_fast_open_cookie_is_refused(lab: api.Lab) -> None:
    """The first SYN asks for a cookie and carries the tag; those with a cookie cannot."""
    with fast_open_server(lab, SAFE) as address:
        done = lab.exec(CLIENT, [sys.executable, "-c", FAST_OPEN, address, "7200"])
        first, second, _ = json.loads(done.stdout)
    assert first == "fast"
    # a client whose SYN with data is not answered tries again without, and that one has room
    assert second in ("fast", "TimeoutError")
    eventually(
        lambda: any(
            f.reason == "IDENTITY_REQUIRED" and f.hook == "ingress"
            for f in flows(lab, source="shop/client", destination="shop/safe", verdict="DENY")
        )
    )


# Opens a connection with a cookie, says "open" and goes on talking.
FAST_HOLD = """
import socket, sys, time
for last in (False, True):
    s = socket.socket()
    s.sendto(b"x", socket.MSG_FASTOPEN, (sys.argv[1], int(sys.argv[2])))
    s.recv(99)
    if not last:
        s.close()
print("open", flush=True)
while True:
    s.sendall(b"x")
    if not s.recv(99):
        break
    time.sleep(0.1)
"""

# The same without a cookie.
HOLD = """
import socket, sys, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5)
s.sendall(b"x")
s.recv(99)
print("open", flush=True)
while True:
    s.sendall(b"x")
    if not s.recv(99):
        break
    time.sleep(0.1)
"""


def test_a_policy_that_becomes_strict_ends_the_connections_that_were_not_proved(
    lab: api.Lab,
) -> None:
    strict = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: vault, namespace: shop, annotations: {mesh.hoplite.io/identity: %s}}
spec:
  podSelector: {matchLabels: {app: vault}}
  ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]
"""
    with fast_open_server(lab, VAULT) as address:
        proved, unproved = (
            lab.popen(CLIENT, [sys.executable, "-c", program, address, "7200"])
            for program in (HOLD, FAST_HOLD)
        )
        try:
            for client in (proved, unproved):
                assert client.stdout is not None
                assert client.stdout.readline() == "open\n"
            apply(lab, strict % "strict")
            eventually(lambda: unproved.poll() is not None)
            assert proved.poll() is None
        finally:
            for client in (proved, unproved):
                client.terminate()
                client.wait()
            apply(lab, strict % "permissive")
    eventually(
        lambda: any(
            (f.state, f.reason, f.authenticated) == ("cut", "IDENTITY_REQUIRED", False)
            for f in recorded(lab, "shop/client", "shop/vault", "inbound")
        )
    )


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("way", ["non-blocking", "mapped", "mptcp", "io_uring", "passed-on"])
def test_every_way_of_connecting_proves_who_calls(lab: api.Lab, way: str, family: int) -> None:
    own = lab.workload(SAFE).addresses[family]
    done = lab.exec(CLIENT, [sys.executable, "-c", PROGRAM, way, own, str(TCP)])
    assert (done.returncode, done.stdout) == (0, "safe\n"), done.stderr
    done = lab.exec(BROWSER, [sys.executable, "-c", PROGRAM, way, own, str(TCP)])
    assert (done.returncode, done.stdout) == (0, "EPERM\n"), done.stderr


MULTIPATH = """
import socket, sys
try:
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
except OSError as error:
    sys.exit(3)
s.settimeout(5)
s.connect((sys.argv[1], int(sys.argv[2])))
print(s.recv(99).decode())
s.sendall(b"x" * 100000)
got = 0
while got < 100000:
    got += len(s.recv(65536))
"""


def test_multipath_tcp_gets_through(lab: api.Lab) -> None:
    own = lab.workload(SAFE).addresses[0]
    done = lab.exec(CLIENT, [sys.executable, "-c", MULTIPATH, own, str(TCP)])
    if done.returncode == 3:
        pytest.skip("this kernel has no multipath TCP")
    assert (done.returncode, done.stdout) == (0, "safe\n"), done.stderr


@contextmanager
def cut_off(lab: api.Lab, node: str) -> Iterator[None]:
    """No packet reaches a node or leaves it meanwhile."""

    def turn(state: str) -> None:
        from pyroute2 import IPRoute

        with IPRoute() as ip:
            ip.link("set", index=ip.link_lookup(ifname=node)[0], state=state)

    netns.within(lab.record.plan.fabric, lambda: turn("down"))
    try:
        yield
    finally:
        netns.within(lab.record.plan.fabric, lambda: turn("up"))


def test_a_retransmitted_syn_carries_a_tag_that_is_good(lab: api.Lab) -> None:
    own = lab.workload(SAFE).addresses[0]
    with cut_off(lab, "node2"):
        caller = lab.popen(CLIENT, [sys.executable, "-c", PATIENT, own, str(TCP)])
        time.sleep(1.5)
    out, _ = caller.communicate(timeout=20)
    assert out == "safe\n"


PATIENT = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=15) as connection:
    print(connection.recv(99).decode())
"""

# Both ends dial at once, from and to fixed ports.
CROSS = """
import socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", 7300))
s.settimeout(15)
s.connect((sys.argv[1], 7300))
s.sendall(b"crossed")
print(s.recv(7).decode())
"""


def test_two_that_dial_each_other_at_once_meet(lab: api.Lab) -> None:
    client, near = lab.workload(CLIENT), lab.workload(NEAR)
    with cut_off(lab, "node2"):
        callers = [
            lab.popen(CLIENT, [sys.executable, "-c", CROSS, near.addresses[0]]),
            lab.popen(NEAR, [sys.executable, "-c", CROSS, client.addresses[0]]),
        ]
        time.sleep(1.5)
    heard = [caller.communicate(timeout=20)[0] for caller in callers]
    assert heard == ["crossed\n"] * 2

    def told() -> bool:
        """Each end has dialled, and proved who it is."""
        found = flows(lab, source="shop/client", destination="shop/near", direction="outbound")
        found += flows(lab, source="shop/near", destination="shop/client", direction="outbound")
        crossed = [f for f in found if f.destination.port == 7300]
        return [(f.authenticated, f.bytes_sent) for f in crossed] == [(True, 7)] * 2

    eventually(told)


# -- addresses that change hands -------------------------------------------------------------------


def test_an_address_that_has_a_new_owner_never_speaks_for_the_former(lab: api.Lab) -> None:
    """Also while the server's node has not heard of the change: then it refuses."""
    former = _workload(lab, "client")
    meta = replace(former.metadata, name="heir", uid="", resource_version="")
    heir = replace(former, metadata=meta, status=type(former.status)())
    addresses = lab.workload(VAULT).addresses
    with paused(lab, "node2"):
        delete(lab, "workload", "shop", "client")
        _apply(lab, heir)
        eventually(lambda: _claims_here(lab, "node1") >= {claim("shop", "heir")})
        for address in addresses:
            assert dial(lab, CLIENT, address, TCP)["answers"] == {"TimeoutError": 1}
    try:
        for address in addresses:
            eventually(
                lambda to=address: dial(lab, CLIENT, to, TCP)["answers"] == {"vault": 1}  # type: ignore[misc]
            )
        eventually(lambda: len(recorded(lab, "shop/heir", "shop/vault", "inbound")) >= 2)
        found = recorded(lab, "shop/heir", "shop/vault", "inbound")
        assert all(flow.authenticated for flow in found)
        refused = flows(lab, destination="shop/vault", verdict="DENY", direction="inbound")
        assert "IDENTITY_FORGED" in {flow.reason for flow in refused}
    finally:
        delete(lab, "workload", "shop", "heir")
        _apply(lab, replace(former, metadata=replace(former.metadata, uid="", resource_version="")))
        eventually(lambda: _claims_here(lab, "node1") >= {claim("shop", "client")})


def _claims_here(lab: api.Lab, node: str) -> set[int]:
    """What the workloads of a node claim, by its kernel."""
    return {entry["value"]["claim"] for entry in ask_agent(lab, node, "/maps/workloads")}


def _workload(lab: api.Lab, name: str) -> Workload:
    async def get() -> Workload:
        async with lab.endpoint.client() as client:
            found = await client.get(by_word("workload"), "shop", name)
            assert isinstance(found, Workload)
            return found

    return asyncio.run(get())


def _apply(lab: api.Lab, workload: Workload) -> None:
    async def send_it() -> None:
        async with lab.endpoint.client() as client:
            await client.apply([workload])

    asyncio.run(send_it())
