"""Packets really travel, at once, over both families, within a node and across nodes."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from lab import api, netns
from lab.plan import FABRIC4, FABRIC6

pytestmark = pytest.mark.root

WEB, FRONTEND, FAR = "node1/shop/web", "node1/shop/frontend", "node2/shop/web"


def serve(netns_name: str, address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return netns.within(netns_name, lambda: socket.create_server((address, 8080), family=family))


def peer_seen(client_netns: str, server_netns: str, address: str) -> str:
    """Connect from one namespace to an address in another; returns what the server sees."""
    with serve(server_netns, address) as server:
        server.settimeout(2)
        with netns.within(
            client_netns, lambda: socket.create_connection((address, 8080), timeout=2)
        ) as client:
            connection, peer = server.accept()
            with connection:
                connection.sendall(b"hello")
                assert client.recv(5) == b"hello"
            found: str = peer[0]
            return found


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(
    ("client", "server"),
    [(FRONTEND, WEB), (FRONTEND, FAR), (FAR, WEB)],
    ids=["same-node", "other-node", "back"],
)
def test_pod_to_pod_with_the_pods_own_address(
    two_nodes: api.Lab, client: str, server: str, family: int
) -> None:
    source, target = two_nodes.workload(client), two_nodes.workload(server)
    seen = peer_seen(source.netns, target.netns, target.addresses[family])
    assert seen == source.addresses[family]


@pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])
def test_nodes_pods_and_the_fabric_reach_each_other(two_nodes: api.Lab, family: int) -> None:
    one, two = two_nodes.record.plan.nodes
    pod = two_nodes.workload(WEB)
    address1, address2 = (one.address4, one.address6)[family], (two.address4, two.address6)[family]
    assert peer_seen(two.netns, one.netns, address1) == address2
    assert peer_seen(pod.netns, two.netns, address2) == pod.addresses[family]
    assert peer_seen(one.netns, pod.netns, pod.addresses[family]) == address1
    assert peer_seen(two.netns, pod.netns, pod.addresses[family]) == address2
    fabric = (FABRIC4, FABRIC6)[family]
    assert peer_seen(one.netns, two_nodes.record.plan.fabric, fabric) == address1


def test_the_machines_own_network_is_left_alone(two_nodes: api.Lab) -> None:
    assert two_nodes.record.plan.nodes
    tables = [Path("/proc/net", name).read_text() for name in ("dev", "if_inet6", "fib_trie")]
    for trace in ("172.30.0", "10.244.", "fd000030", "fd000244", "pod0", "node1", "br0"):
        assert all(trace not in table for table in tables)


def test_labs_side_by_side_use_the_same_addresses(
    two_nodes: api.Lab, bare_lab: Callable[[str], api.Lab]
) -> None:
    other = bare_lab(
        "{apiVersion: lab.hoplite.io/v1alpha1, kind: Lab, spec: {nodes: [{name: node1, workloads: "
        "[{name: web, namespace: shop}]}]}}"
    )
    address = two_nodes.workload(WEB).address4
    assert other.workload(WEB).address4 == address
    with serve(two_nodes.workload(WEB).netns, address), pytest.raises(OSError):
        netns.within(
            other.node("node1").netns,
            lambda: socket.create_connection((address, 8080), timeout=0.5),
        )
