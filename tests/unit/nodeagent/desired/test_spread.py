"""Which backends new connections may get: weights, health, locality, and what is left alone."""

from __future__ import annotations

import pytest

from meshapi.resources import Key
from tests.unit.nodeagent.desired.balancing import (
    EAST,
    HERE,
    WEST,
    Node,
    cut_off,
    mesh,
    node,
    policy,
    service,
    workload,
)

ALL = {HERE, EAST, WEST}


def prefer(wish: str):
    return policy(loadBalancing={"locality": {"prefer": wish}})


# -- weights ---------------------------------------------------------------------------------------


def test_a_backend_of_weight_0_belongs_to_the_service_and_gets_nothing_new() -> None:
    web = mesh()
    web.tell(workload("east", "n2", EAST, weight=0))
    assert web.drawn() == {HERE, WEST}
    assert web.kept() == {EAST}
    web.tell(workload("east", "n2", EAST, weight=5))
    assert web.drawn() == ALL
    assert web.kept() == set()


def test_another_weight_is_another_slot_table() -> None:
    """So that no connection meets half of the one and half of the other."""
    web = mesh()
    before = web.entry().epoch
    web.tell(workload("east", "n2", EAST, weight=2))
    assert web.entry().epoch != before
    web.tell(workload("east", "n2", EAST))
    assert web.entry().epoch == before


def test_if_all_have_weight_0_there_is_none() -> None:
    web = mesh()
    web.tell(*(workload(n, m, a, weight=0) for n, m, a in PLACES))
    assert web.drawn() == set()
    assert web.kept() == ALL


PLACES = (("here", "n1", HERE), ("east", "n2", EAST), ("west", "n3", WEST))


@pytest.mark.parametrize(
    "leaving",
    [
        workload("east", "n2", EAST, ready=False),
        workload("east", "n2", EAST, labels={"app": "other"}),
    ],
    ids=["not ready", "not selected"],
)
def test_a_backend_that_leaves_is_gone_from_both_tables(leaving) -> None:
    web = mesh()
    web.tell(leaving)
    assert web.drawn() == web.belonging() == {HERE, WEST}


# -- health ----------------------------------------------------------------------------------------


def test_a_port_that_its_node_calls_unhealthy_is_left_out() -> None:
    web = mesh()
    web.tell(workload("east", "n2", EAST, unhealthy=(8080,)))
    assert web.drawn() == web.belonging() == {HERE, WEST}


def test_another_port_does_not_matter() -> None:
    web = mesh()
    web.tell(workload("east", "n2", EAST, unhealthy=(9090,)))
    assert web.drawn() == ALL


def test_of_our_own_workloads_we_know_it_first() -> None:
    web = mesh()
    web.tell(unhealthy={("shop", "here"): (8080,)})
    assert web.drawn() == {EAST, WEST}
    web.tell(workload("here", "n1", HERE, unhealthy=(8080,)), unhealthy={})
    assert web.drawn() == ALL  # the controller will hear of it


def test_when_all_fail_their_check_all_are_used() -> None:
    web = mesh()
    web.tell(
        workload("east", "n2", EAST, unhealthy=(8080,)),
        workload("west", "n3", WEST, unhealthy=(8080,)),
        unhealthy={("shop", "here"): (8080,)},
    )
    assert web.drawn() == ALL


def test_a_drained_one_that_is_healthy_does_not_make_the_unhealthy_ones_useless() -> None:
    web = mesh()
    web.tell(
        workload("east", "n2", EAST, unhealthy=(8080,)),
        workload("west", "n3", WEST, weight=0),
        unhealthy={("shop", "here"): (8080,)},
    )
    assert web.drawn() == {HERE, EAST}
    assert web.kept() == {WEST}


@pytest.mark.parametrize("own", [(), (8080,)], ids=["it is healthy", "it is not"])
def test_a_quarantined_one_is_not_used_even_when_all_fail(own: tuple[int, ...]) -> None:
    web = mesh()
    web.tell(
        workload("east", "n2", EAST, unhealthy=own),
        workload("west", "n3", WEST, unhealthy=(8080,)),
        cut_off("east"),
        unhealthy={("shop", "here"): (8080,)},
    )
    assert web.drawn() == web.belonging() == {HERE, WEST}


# -- locality --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "expected"), [("Node", {HERE}), ("Zone", {HERE, EAST}), ("None", ALL)]
)
def test_the_nearest_ring_is_used(wish: str, expected: set[str]) -> None:
    web = mesh(prefer(wish))
    assert web.drawn() == expected
    assert web.belonging() == ALL  # the others keep what they have
    assert web.kept() == ALL - expected


@pytest.mark.parametrize(
    ("distribution", "expected"),
    [
        ("PreferSameNode", {HERE}),
        ("PreferSameZone", {HERE, EAST}),
        ("PreferClose", {HERE, EAST}),
    ],
)
def test_a_services_own_wish(distribution: str, expected: set[str]) -> None:
    assert mesh(trafficDistribution=distribution).drawn() == expected


def test_the_policy_goes_before_the_service() -> None:
    assert mesh(prefer("None"), trafficDistribution="PreferSameNode").drawn() == ALL


@pytest.mark.parametrize(
    "lost",
    [{"ready": False}, {"weight": 0}, {"labels": {"app": "other"}}],
    ids=["not ready", "weight 0", "not selected"],
)
def test_each_ring_is_for_when_the_nearer_one_can_take_nothing(lost) -> None:
    web = mesh(prefer("Node"))
    web.tell(workload("here", "n1", HERE, **lost))
    assert web.drawn() == {EAST}
    web.tell(workload("east", "n2", EAST, **lost))
    assert web.drawn() == {WEST}
    web.tell(workload("here", "n1", HERE))
    assert web.drawn() == {HERE}


def test_an_unhealthy_ring_is_left_for_the_next() -> None:
    web = mesh(prefer("Node"))
    web.tell(unhealthy={("shop", "here"): (8080,)})
    assert web.drawn() == {EAST}


def test_a_node_without_a_zone_prefers_none() -> None:
    web = mesh(prefer("Zone"))
    web.tell(node("n1", ""))
    assert web.drawn() == ALL


def test_zones_may_move() -> None:
    web = mesh(prefer("Zone"))
    web.tell(node("n1", "west"))
    assert web.drawn() == {HERE, WEST}
    web.tell(node("n2", "west"))
    assert web.drawn() == ALL
    web.tell(node("n3", "far"))
    assert web.drawn() == {HERE, EAST}


def test_our_own_zone_matters_for_services_that_we_have_no_backend_of() -> None:
    web = mesh(prefer("Zone"))
    web.tell(gone=(Key("Workload", "shop", "here"),))
    assert web.drawn() == {EAST}
    web.tell(node("n1", "west"))
    assert web.drawn() == {WEST}
    web.tell(gone=(Key("MeshNode", "", "n1"),))
    assert web.drawn() == {EAST, WEST}


# -- internalTrafficPolicy -------------------------------------------------------------------------


def test_local_is_a_promise() -> None:
    web = mesh(internalTrafficPolicy="Local")
    assert web.drawn() == web.belonging() == {HERE}
    web.tell(workload("here", "n1", HERE, ready=False))
    assert web.drawn() == web.belonging() == set()


def test_local_and_all_unhealthy_uses_its_own() -> None:
    web = mesh(internalTrafficPolicy="Local")
    web.tell(unhealthy={("shop", "here"): (8080,)})
    assert web.drawn() == {HERE}


# -- affinity and ejection -------------------------------------------------------------------------


def test_affinity_is_the_policys_or_the_services_word() -> None:
    assert mesh().entry().affinity == 0
    assert mesh(sessionAffinity="ClientIP").entry().affinity == 10_800
    minute = {"clientIP": {"timeoutSeconds": 60}}
    web = mesh(sessionAffinity="ClientIP", sessionAffinityConfig=minute)
    assert web.entry().affinity == 60
    web.tell(policy(loadBalancing={"affinity": {"type": "ClientIP", "timeoutSeconds": 5}}))
    assert web.entry().affinity == web.entry(53, "UDP").affinity == 5


def ejection(web: Node, protocol: str = "TCP") -> tuple[int, int, int]:
    entry = web.entry(53 if protocol == "UDP" else 80, protocol)
    return entry.eject_after, entry.eject_seconds, entry.eject_most


def test_ejection_is_on_where_there_is_another_backend() -> None:
    web = mesh()
    assert ejection(web) == (5, 10, 1)
    assert ejection(web, "UDP") == (0, 0, 0)
    web.tell(gone=(Key("Workload", "shop", "west"),))
    assert ejection(web) == (5, 10, 1)
    web.tell(workload("east", "n2", EAST, weight=0))
    assert ejection(web) == (0, 0, 0)


def test_a_policy_changes_ejection_or_turns_it_off() -> None:
    web = mesh(policy(outlierDetection={"consecutiveConnectFailures": 2, "maxEjectionPercent": 70}))
    assert ejection(web) == (2, 10, 2)
    web.tell(policy(outlierDetection={"baseEjectionSeconds": 3600, "maxEjectionPercent": 100}))
    assert ejection(web) == (5, 3600, 3)
    web.tell(policy(outlierDetection={"consecutiveConnectFailures": 0}))
    assert ejection(web) == (0, 0, 0)
    web.tell(policy(healthCheck={}))
    assert ejection(web) == (5, 10, 1)


def test_the_node_itself_need_not_be_known() -> None:
    web = Node()
    web.tell(service(trafficDistribution="PreferSameZone"), workload("east", "n2", EAST))
    assert web.drawn() == {EAST}
