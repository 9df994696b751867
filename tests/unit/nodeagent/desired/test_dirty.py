from __future__ import annotations

from dataclasses import replace

from meshapi.resources import Resource
from meshapi.watch import Snapshot
from nodeagent.desired import dirty
from nodeagent.desired.units import NODE, Facts, Unit
from nodeagent.state import advance, build, difference
from tests.unit.nodeagent.desired import making
from tests.unit.nodeagent.desired.making import node, pod, quarantine, route, service

N1, N2 = node("n1", "172.30.0.1"), node("n2", "172.30.0.2")
WEB = pod("web", "n1", "10.0.0.1", labels={"app": "web"})
API = pod("api", "n2", "10.0.0.2", labels={"app": "api"})
HOST = pod("host", "n2", labels={"app": "host"})
MESH = (
    N1,
    N2,
    WEB,
    API,
    HOST,
    service("web", "10.96.0.1", app="web"),
    service("api", "10.96.0.2", app="api"),
    service("host", "10.96.0.3", app="host"),
    route("r", "web", "api"),
)


def stale(*changed: Resource, without: tuple[Resource, ...] = ()) -> set[Unit]:
    """The units that objects put into the mesh, or taken out of it, are part of."""
    before = build("n1", Snapshot(1, making.keyed(*MESH)))
    objects = making.keyed(*(o for o in MESH if o not in without), *changed)
    snapshot = Snapshot(2, objects)
    changes = difference(making.keyed(*MESH), snapshot)
    after = advance(before, snapshot, changes)
    return dirty.units(before, after, changes, dirty.touched_workloads(after, changes))


def services(units: set[Unit]) -> set[str]:
    return {unit[2] for unit in units if unit[0] == "service"}


def test_nothing_changed_nothing_is_stale() -> None:
    assert stale() == set()


def test_a_workload_is_part_of_its_address_and_its_services() -> None:
    moved = pod("web", "n1", "10.0.0.9", labels={"app": "web"})
    assert stale(moved) == {
        ("local", "shop", "web"),
        ("address", "10.0.0.1"),
        ("address", "10.0.0.9"),
        ("service", "shop", "web"),
    }


def test_a_backend_is_part_of_the_services_whose_routes_lead_to_it() -> None:
    assert services(stale(without=(API,))) == {"api", "web"}


def test_labels_bring_a_workload_into_a_service_and_out_of_it() -> None:
    relabelled = pod("api", "n2", "10.0.0.2", labels={"app": "web"})
    assert services(stale(relabelled)) == {"api", "web"}


def test_a_host_network_workload_is_part_of_its_nodes_addresses_and_ports() -> None:
    assert stale(without=(HOST,)) == {
        ("listeners", "n2"),
        ("address", "172.30.0.2"),
        ("service", "shop", "host"),
    }


def test_a_namespaces_labels_are_those_of_all_its_workloads() -> None:
    units = stale(making.made("v1", "Namespace", "shop", labels={"env": "prod"}))
    assert {unit for unit in units if unit[0] == "address"} == {
        ("address", a) for a in ("10.0.0.1", "10.0.0.2", "172.30.0.2")
    }
    assert services(units) == {"web", "api", "host"}


def test_a_node_is_part_of_what_is_at_its_addresses() -> None:
    units = stale(node("n2", "172.30.0.9"))
    assert {("address", "172.30.0.2"), ("address", "172.30.0.9"), ("listeners", "n2")} <= units
    assert "host" in services(units)
    assert NODE not in units
    assert NODE in stale(node("n1", "172.30.0.1", labels={"zone": "a"}))


def test_a_quarantine_is_about_its_workload_and_its_guests() -> None:
    units = stale(quarantine("q", "web", {"namespace": "shop", "workload": "api"}))
    assert {("address", "10.0.0.1"), ("address", "10.0.0.2"), ("local", "shop", "web")} <= units


def test_a_route_is_part_of_its_parents_only() -> None:
    assert stale(route("other", "host", "web")) == {("service", "shop", "host")}


def test_facts_are_part_of_what_they_are_about() -> None:
    facts = Facts(cgroups={("shop", "web"): (7, 2)}, proxy4="169.254.77.1")
    assert dirty.by_facts(facts, facts) == set()
    moved = replace(facts, cgroups={("shop", "web"): (8, 2), ("shop", "x"): (9, 2)})
    assert dirty.by_facts(facts, moved) == {("local", "shop", "web"), ("local", "shop", "x")}
    ready = replace(facts, redirected=frozenset({("shop", "web", 80)}))
    assert dirty.by_facts(facts, ready) == {("service", "shop", "web")}
    away = replace(facts, proxy4="169.254.77.2")
    assert dirty.by_facts(facts, away) == {
        ("address", "169.254.77.1"),
        ("address", "169.254.77.2"),
    }


def test_everything_is_every_unit() -> None:
    held = build("n1", Snapshot(1, making.keyed(*MESH)))
    units = dirty.everything(held, Facts(proxy4="169.254.77.1"))
    assert {unit[1] for unit in units if unit[0] == "address"} == {
        "10.0.0.1",
        "10.0.0.2",
        "172.30.0.1",
        "172.30.0.2",
        "10.96.0.1",
        "10.96.0.2",
        "10.96.0.3",
        "169.254.77.1",
    }
    assert {unit for unit in units if unit[0] == "local"} == {("local", "shop", "web")}
    assert services(units) == {"web", "api", "host"}
