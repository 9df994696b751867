"""Load balancing between real programs: weights, affinity, nearness, and what applications see."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from lab import api
from lab.restart import kill, start_agent
from tests.mesh.asking import apply, delete, dial, flows, send, virtual_addresses
from tests.mesh.balancing_world import (
    HOSTS,
    LAB,
    PODS,
    ZONE,
    Keeper,
    get_workload,
    label,
    make_again,
    policy,
    service,
    weigh,
    workload_name,
)

pytestmark = pytest.mark.root

FAR, WEST = "node2/shop/far", "node3/shop/west"
FAMILIES = pytest.mark.parametrize("family", [0, 1], ids=["IPv4", "IPv6"])

STICKY = service("sticky", sessionAffinity="ClientIP")
BRIEF = service(
    "brief",
    sessionAffinity="ClientIP",
    sessionAffinityConfig={"clientIP": {"timeoutSeconds": 2}},
)
ZONED = service("zoned", trafficDistribution="PreferSameZone")
NEAR = service("near", trafficDistribution="PreferSameNode")
LOCAL = service("local", internalTrafficPolicy="Local")


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str], api.Lab]) -> api.Lab:
    return make_lab(LAB + STICKY + BRIEF + ZONED + NEAR + LOCAL)


@pytest.fixture(autouse=True)
def _as_it_was(lab: api.Lab) -> Iterator[None]:
    """Every test begins with weights of 1."""
    yield
    for who in ("one", "two", "three"):
        if get_workload(lab, workload_name(lab, who)).spec.weight != 1:
            weigh(lab, workload_name(lab, who), 1)


# -- weights ---------------------------------------------------------------------------------------


def test_ninety_nine_to_one(lab: api.Lab) -> None:
    """With real connections: 2970 and 30 of 3000, but for one chance in a million."""
    weigh(lab, workload_name(lab, "one"), 99)
    weigh(lab, workload_name(lab, "three"), 0)
    found = dial(lab, PODS[0], virtual_addresses(lab, "shop", "web")[0], 80, 3000)["answers"]
    assert found.keys() == {"one", "two"}
    assert sum(found.values()) == 3000
    assert 6 <= found["two"] <= 61


@FAMILIES
def test_weight_0_gets_nothing_new(lab: api.Lab, family: int) -> None:
    address = virtual_addresses(lab, "shop", "web")[family]
    weigh(lab, workload_name(lab, "two"), 0)
    assert dial(lab, PODS[0], address, 80, 60)["answers"].keys() == {"one", "three"}
    assert send(lab, PODS[0], address, 53, 60)["answers"].keys() == {"one", "three"}
    weigh(lab, workload_name(lab, "two"), 3)
    assert dial(lab, PODS[0], address, 80, 60)["answers"].keys() == {"one", "two", "three"}


def test_all_of_weight_0_is_refused(lab: api.Lab) -> None:
    address = virtual_addresses(lab, "shop", "web")[0]
    for who in ("one", "two", "three"):
        weigh(lab, workload_name(lab, who), 0)
    assert dial(lab, PODS[0], address, 80)["answers"] == {"ECONNREFUSED": 1}
    assert flows(lab, source="shop/pod1", verdict="DENY", last=1)[0].reason == "NO_BACKEND"


# -- affinity --------------------------------------------------------------------------------------


@FAMILIES
@pytest.mark.parametrize("target", [PODS[0], HOSTS[0], FAR])
def test_a_client_stays_with_its_backend(lab: api.Lab, target: str, family: int) -> None:
    address = virtual_addresses(lab, "shop", "sticky")[family]
    assert list(dial(lab, target, address, 80, 20)["answers"].values()) == [20]
    for how in ("fresh", "connected", "same"):
        assert list(send(lab, target, address, 53, 10, how)["answers"].values()) == [10]


def test_a_client_is_an_address(lab: api.Lab) -> None:
    """Pods are clients of their own, the host-network workloads of a node are one together."""
    address = virtual_addresses(lab, "shop", "brief")[0]
    hosts, pods = set(), set()
    for _ in range(5):
        first, second = (_backend(lab, target, address) for target in HOSTS)
        assert first == second
        hosts.add(first)
        pods.add(tuple(_backend(lab, target, address) for target in PODS))
        time.sleep(3.1)  # longer than the affinity lasts
    assert len(hosts) > 1  # the same five times: 1 in 81
    assert any(len(set(together)) > 1 for together in pods)


def _backend(lab: api.Lab, target: str, address: str) -> str:
    answers = dial(lab, target, address, 80, 2)["answers"]
    assert len(answers) == 1, answers
    return next(iter(answers))


def test_affinity_outlives_the_agent(lab: api.Lab) -> None:
    address = virtual_addresses(lab, "shop", "sticky")[0]
    before = _backend(lab, PODS[1], address)
    kill(lab, "node1", "hoplite-agent")
    assert _backend(lab, PODS[1], address) == before
    start_agent(lab, "node1")
    assert _backend(lab, PODS[1], address) == before


def test_a_backend_that_drains_is_replaced_and_so_is_one_that_is_gone(lab: api.Lab) -> None:
    address = virtual_addresses(lab, "shop", "sticky")[0]
    first = _backend(lab, PODS[2], address)
    weigh(lab, workload_name(lab, first), 0)
    second = _backend(lab, PODS[2], address)
    assert second != first
    weigh(lab, workload_name(lab, first), 1)
    assert _backend(lab, PODS[2], address) == second
    label(lab, "workload", workload_name(lab, second), app="else")
    third = _backend(lab, PODS[2], address)
    assert third != second
    label(lab, "workload", workload_name(lab, second), app="web")
    assert _backend(lab, PODS[2], address) == third


# -- nearness --------------------------------------------------------------------------------------


@FAMILIES
def test_the_nearest_backends_go_first(lab: api.Lab, family: int) -> None:
    zoned = virtual_addresses(lab, "shop", "zoned")[family]
    near = virtual_addresses(lab, "shop", "near")[family]
    assert dial(lab, PODS[0], zoned, 80, 40)["answers"].keys() == {"one", "two"}
    assert dial(lab, FAR, zoned, 80, 40)["answers"].keys() == {"one", "two"}
    assert dial(lab, WEST, zoned, 80, 20)["answers"].keys() == {"three"}
    assert send(lab, WEST, zoned, 53, 20)["answers"].keys() == {"three"}
    for target, own in ((PODS[0], "one"), (HOSTS[0], "one"), (FAR, "two"), (WEST, "three")):
        assert dial(lab, target, near, 80, 20)["answers"].keys() == {own}


def test_farther_ones_are_for_when_the_nearer_ones_can_take_nothing(lab: api.Lab) -> None:
    near = virtual_addresses(lab, "shop", "near")[0]
    weigh(lab, workload_name(lab, "one"), 0)
    assert dial(lab, PODS[0], near, 80, 20)["answers"].keys() == {"two"}
    weigh(lab, workload_name(lab, "two"), 0)
    assert dial(lab, PODS[0], near, 80, 20)["answers"].keys() == {"three"}
    weigh(lab, workload_name(lab, "one"), 1)
    assert dial(lab, PODS[0], near, 80, 20)["answers"].keys() == {"one"}


def test_a_node_that_moves_to_another_zone(lab: api.Lab) -> None:
    zoned = virtual_addresses(lab, "shop", "zoned")[0]
    label(lab, "meshnode", "node2", **{ZONE: "west"})
    assert dial(lab, PODS[0], zoned, 80, 20)["answers"].keys() == {"one"}
    assert dial(lab, WEST, zoned, 80, 40)["answers"].keys() == {"two", "three"}
    label(lab, "meshnode", "node2", **{ZONE: "east"})
    assert dial(lab, WEST, zoned, 80, 20)["answers"].keys() == {"three"}


def test_local_means_this_node_or_nobody(lab: api.Lab) -> None:
    local = virtual_addresses(lab, "shop", "local")[0]
    assert dial(lab, PODS[0], local, 80, 20)["answers"].keys() == {"one"}
    label(lab, "workload", workload_name(lab, "one"), app="else")
    assert dial(lab, PODS[0], local, 80)["answers"] == {"ECONNREFUSED": 1}
    assert send(lab, PODS[0], local, 53)["answers"] == {"ECONNREFUSED": 1}
    assert dial(lab, FAR, local, 80, 20)["answers"].keys() == {"two"}
    label(lab, "workload", workload_name(lab, "one"), app="web")
    assert dial(lab, PODS[0], local, 80, 5)["answers"].keys() == {"one"}


# -- what applications see -------------------------------------------------------------------------


@FAMILIES
@pytest.mark.parametrize("target", ["node1/shop/web1", "node2/shop/web2", PODS[0], HOSTS[0], FAR])
@pytest.mark.parametrize("name", ["web", "sticky", "zoned"])
def test_everybody_sees_what_they_dialled_the_servers_themselves_too(
    lab: api.Lab, name: str, target: str, family: int
) -> None:
    address = virtual_addresses(lab, "shop", name)[family]
    found = dial(lab, target, address, 80, 12)
    assert found["answers"].keys() <= {"one", "two", "three"}
    assert found["peers"] == [[address, 80]]
    for how in ("fresh", "connected", "same"):
        found = send(lab, target, address, 53, 6, how)
        assert found["answers"].keys() <= {"one", "two", "three"}
        assert found["peers"] == [[address, 53]]


# -- draining --------------------------------------------------------------------------------------


@FAMILIES
@pytest.mark.parametrize("target", [PODS[0], HOSTS[0]])
def test_draining_moves_nobody(lab: api.Lab, target: str, family: int) -> None:
    """Open connections, connected and unconnected UDP sockets stay where they are."""
    address = virtual_addresses(lab, "shop", "web")[family]
    with Keeper(lab, target, address) as keeper:
        for _ in range(2):
            for who in ("one", "two", "three"):
                weigh(lab, workload_name(lab, who), 0)
                weigh(lab, workload_name(lab, who), 7)
    keeper.assert_unharmed()
    assert keeper.found["moved"] == 0


def test_backends_come_and_go_and_no_connection_is_harmed(lab: api.Lab) -> None:
    """What belongs to the service no more keeps its connections; unconnected sockets move on."""
    address = virtual_addresses(lab, "shop", "web")[0]
    with Keeper(lab, PODS[0], address) as keeper:
        for who in ("one", "two", "three", "one"):
            name = workload_name(lab, who)
            label(lab, "workload", name, app="else")
            label(lab, "workload", name, app="web")
            found = get_workload(lab, name)
            delete(lab, "workload", "shop", name)
            assert dial(lab, PODS[1], address, 80, 5)["answers"].keys() <= {"one", "two", "three"}
            make_again(lab, found)
    keeper.assert_unharmed()


def test_a_locality_that_changes_moves_no_connection(lab: api.Lab) -> None:
    address = virtual_addresses(lab, "shop", "web")[0]
    with Keeper(lab, PODS[0], address) as keeper:
        for wish in ("Node", "Zone", "None"):
            apply(lab, policy("web", "web", loadBalancing={"locality": {"prefer": wish}}))
    keeper.assert_unharmed()
    assert keeper.found["moved"] == 0
    delete(lab, "trafficpolicy", "shop", "web")
