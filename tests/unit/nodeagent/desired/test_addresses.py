from __future__ import annotations

from meshapi.resources import Resource
from meshapi.watch import Snapshot
from nodeagent import layout
from nodeagent.desired.compiler import Compiler
from nodeagent.desired.units import Facts
from nodeagent.layout import End, address_bytes, port_bytes
from nodeagent.policy.members import Member, Shared
from nodeagent.state import Changes, build
from tests.unit.nodeagent.desired import making
from tests.unit.nodeagent.desired.making import made, node, pod, service

HTTP = [{"name": "http", "port": 80}]


def compiled(*objects: Resource, facts: Facts | None = None) -> Compiler:
    compiler = Compiler("n1")
    found = making.keyed(node("n1", "172.30.0.1"), *objects)
    state = build("n1", Snapshot(1, found))
    compiler.update(state, Changes({}, found), facts or Facts())
    return compiler


def peer(compiler: Compiler, address: str) -> tuple[object, End, int]:
    """Who is at an address, with its flags and identity."""
    raw = compiler.tables["peers"][address_bytes(address)]
    identity, class_, flags, _ = layout.PEER.unpack(raw)
    return compiler.classes[class_], End(flags), identity


def listener(compiler: Compiler, address: str, port: int) -> tuple[object, End, int]:
    end = layout.ENDPOINT.pack(
        address_bytes(address) if address else bytes(16), port_bytes(port), layout.PROTOCOLS["TCP"]
    )
    identity, class_, flags, _ = layout.PEER.unpack(compiler.tables["listeners"][end])
    return compiler.classes[class_], End(flags), identity


def test_what_an_address_is() -> None:
    compiler = compiled(
        node("n2", "172.30.0.2"),
        pod("here", "n1", "10.0.0.1"),
        pod("there", "n2", "10.0.0.2"),
        service("web", "10.96.0.1", app="web"),
        facts=Facts(proxy4="169.254.77.1"),
    )
    flags = {
        text: peer(compiler, text)[1]
        for text in (
            "10.0.0.1",
            "10.0.0.2",
            "10.96.0.1",
            "169.254.77.1",
            "172.30.0.1",
            "172.30.0.2",
        )
    }
    assert flags == {
        "10.0.0.1": End.LOCAL,
        "10.0.0.2": End(0),
        "10.96.0.1": End.VIP,
        "169.254.77.1": End.LOCAL_NODE,
        "172.30.0.1": End.SHARED | End.LOCAL_NODE,
        "172.30.0.2": End.SHARED,
    }


DENY_ALL = made(
    "policy.networking.k8s.io/v1alpha2",
    "ClusterNetworkPolicy",
    "out",
    tier="Admin",
    priority=0,
    subject={"namespaces": {}},
    egress=[{"action": "Deny", "to": [{"networks": ["10.0.0.0/8"]}]}],
)


def test_a_node_proxys_address_is_told_by_the_blocks_that_hold_it() -> None:
    proxied = made(
        making.MESH, "MeshNode", "n2", addresses=["172.30.0.2"], proxyAddresses=["10.0.0.254"]
    )
    what, flags, _ = peer(compiled(proxied, DENY_ALL), "10.0.0.254")
    assert flags == End.PROXY
    assert what == Member(blocks=frozenset({"10.0.0.0/8"}), node_labels=frozenset(), proxy=True)


def test_a_host_network_workload_is_known_by_its_port() -> None:
    compiler = compiled(pod("a", "n1", ports=HTTP), pod("b", "n1", labels={"app": "b"}))
    what, flags, identity = listener(compiler, "172.30.0.1", 80)
    assert isinstance(what, Member)
    assert (what.labels, flags, identity) == (frozenset(), End.LOCAL, 300)
    assert listener(compiler, "", 80) == (what, flags, identity), "on loopback too"


def test_of_several_with_one_port_any_may_listen() -> None:
    compiler = compiled(
        pod("a", "n1", ports=HTTP, labels={"app": "a"}),
        pod("b", "n1", ports=HTTP, labels={"app": "b"}),
    )
    what, _, _ = listener(compiler, "172.30.0.1", 80)
    assert isinstance(what, Shared)
    assert {m.labels for m, _ in what.members} == {
        frozenset({("app", "a")}),
        frozenset({("app", "b")}),
    }


def test_another_nodes_host_network_workloads_do_not_listen_on_loopback() -> None:
    compiler = compiled(node("n2", "172.30.0.2"), pod("a", "n2", ports=HTTP))
    assert len(compiler.tables["listeners"]) == 1
