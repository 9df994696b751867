from __future__ import annotations

from meshapi.resources import Resource, Workload
from nodeagent.desired.ends import Ends, guests
from nodeagent.policy.blocks import Blocks
from nodeagent.policy.members import WORLD, Member, Shared
from tests.unit.nodeagent.desired.making import made, node, pod, quarantine, state

N1 = node("n1", "172.30.0.1", "fd00:30::1", labels={"zone": "a"})
TEN = Blocks([("10.0.0.0/8", ()), ("fd00::/8", ()), ("172.30.0.0/24", ())])


def ends(*objects: Resource, blocks: Blocks = TEN) -> Ends:
    return Ends(state(N1, *objects), blocks)


def member(found: Ends, name: str, version: int = 4) -> Member:
    return found.workload(found.state.workloads["shop", name], version)


def test_a_member_is_what_policies_can_see_of_a_workload() -> None:
    found = ends(
        pod(
            "w",
            "n1",
            "10.0.0.1",
            labels={"app": "web"},
            serviceAccount="web",
            ports=[{"name": "http", "port": 80}, {"port": 81}],
        ),
        made("v1", "Namespace", "shop", labels={"env": "prod"}),
    )
    assert member(found, "w") == Member(
        namespace="shop",
        namespace_labels=frozenset({("env", "prod"), ("kubernetes.io/metadata.name", "shop")}),
        labels=frozenset({("app", "web")}),
        service_account="web",
        ports=frozenset({("http", "TCP", 80)}),
        blocks=frozenset({"10.0.0.0/8"}),
    )


def test_workloads_that_no_policy_could_tell_apart_are_one_member() -> None:
    found = ends(pod("a", "n1", "10.0.0.1"), pod("b", "n1", "10.0.0.2"), pod("c", "n1", "11.0.0.1"))
    assert member(found, "a") is member(found, "b")
    assert member(found, "a") != member(found, "c")


def test_which_blocks_hold_it_depends_on_the_ip_version() -> None:
    found = ends(pod("w", "n1", "10.0.0.1", "fd00::1"), pod("six", "n1", "fd00::2"))
    assert member(found, "w", 4).blocks == {"10.0.0.0/8"}
    assert member(found, "w", 6).blocks == {"fd00::/8"}
    assert member(found, "six", 4).blocks == frozenset()


def test_a_workload_is_in_a_block_if_one_of_its_addresses_is() -> None:
    assert member(ends(pod("w", "n1", "11.0.0.1", "10.0.0.1")), "w").blocks == {"10.0.0.0/8"}


def test_in_the_hosts_network_it_is_at_its_nodes_addresses() -> None:
    found = member(ends(pod("w", "n1")), "w")
    assert found.host
    assert found.node_labels == {("zone", "a")}
    assert found.blocks == {"172.30.0.0/24"}


def test_a_nodes_address_is_all_of_its_host_network_workloads() -> None:
    found = ends(pod("a", "n1", labels={"app": "a"}), pod("b", "n1"), pod("c", "n1", "10.0.0.1"))
    node_ = found.state.nodes["n1"]
    four = frozenset((member(found, name), None) for name in "ab")
    assert found.node_address(node_, "172.30.0.1") == Shared(four)


def test_a_nodes_address_without_workloads_is_just_an_address() -> None:
    found = ends(pod("c", "n1", "10.0.0.1"))
    bare = Member(blocks=frozenset({"172.30.0.0/24"}), node_labels=frozenset({("zone", "a")}))
    assert found.node_address(found.state.nodes["n1"], "172.30.0.1") == bare
    assert found.own_processes(4) == bare


def test_a_node_proxy_is_at_an_address_of_its_node_and_forwards_for_others() -> None:
    found = ends()
    proxy = found.proxy_address(found.state.nodes["n1"], "10.0.0.254")
    assert proxy == Member(
        blocks=frozenset({"10.0.0.0/8"}), node_labels=frozenset({("zone", "a")}), proxy=True
    )


def test_own_processes_of_a_version_that_the_node_has_not_are_nobody() -> None:
    alone = Ends(state(node("n1", "172.30.0.1")), TEN)
    assert alone.own_processes(6) == WORLD
    assert Ends(state(), TEN).own_processes(4) == WORLD


def test_quarantines_show_at_both_their_ends() -> None:
    found = ends(
        pod("w", "n1", "10.0.0.1"),
        pod("g", "n1", "10.0.0.2"),
        quarantine("q", "w", {"namespace": "shop", "workload": "g"}),
    )
    assert (member(found, "w").quarantined, member(found, "w").guest_of) == ("shop/q", frozenset())
    assert (member(found, "g").quarantined, member(found, "g").guest_of) == ("", {"shop/q"})


def test_a_guest_may_be_welcome_before_and_after_its_quarantine() -> None:
    found = ends(pod("g", "n1", "10.0.0.2"))
    given = quarantine("q", "w", {"namespace": "shop", "workload": "g"}, {"cidr": "10.0.0.0/8"})
    found.welcome = guests([given])  # type: ignore[list-item]
    assert member(found, "g").guest_of == {"shop/q"}


def test_what_has_changed_is_made_anew_once_it_is_forgotten() -> None:
    found = ends(pod("w", "n1", "10.0.0.1", labels={"app": "a"}))
    before = member(found, "w")
    found.state = state(N1, pod("w", "n1", "10.0.0.1", labels={"app": "b"}))
    assert member(found, "w") is before
    found.forget([("shop", "w")])
    assert member(found, "w").labels == {("app", "b")}


def test_a_namespaces_labels_are_kept_until_they_are_forgotten() -> None:
    found = ends(pod("w", "n1", "10.0.0.1"))
    assert member(found, "w").namespace_labels == {("kubernetes.io/metadata.name", "shop")}
    found.state = state(
        pod("w", "n1", "10.0.0.1"), made("v1", "Namespace", "shop", labels={"env": "x"})
    )
    found.forget_namespace("shop")
    found.forget([("shop", "w")])
    assert ("env", "x") in member(found, "w").namespace_labels
    assert isinstance(found.state.workloads["shop", "w"], Workload)
