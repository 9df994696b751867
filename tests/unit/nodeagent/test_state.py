from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from meshapi.resources import Key, Resource, Service, Workload, key_of
from meshapi.watch import Snapshot
from nodeagent.state import (
    Changes,
    NodeState,
    advance,
    build,
    difference,
    name_of,
)
from tests.unit.nodeagent.desired import making, worlds
from tests.unit.nodeagent.desired.making import node, pod, quarantine, route, service, state


def names(found: list[Workload]) -> list[str]:
    return [w.metadata.name for w in found]


def test_local_workloads_are_those_of_the_node() -> None:
    held = state(pod("b", "n1", "10.0.0.2"), pod("a", "n1"), pod("c", "n2", "10.0.0.3"))
    assert names(held.local) == ["a", "b"]


def test_a_namespace_is_always_labelled_with_its_name() -> None:
    labelled = making.made("v1", "Namespace", "shop", labels={"env": "prod"})
    held = state(labelled)
    assert held.namespace_labels("shop") == {"env": "prod", "kubernetes.io/metadata.name": "shop"}
    assert held.namespace_labels("dev") == {"kubernetes.io/metadata.name": "dev"}


def test_a_service_selects_by_all_labels_in_its_own_namespace() -> None:
    held = state(
        service("web", "10.96.0.1", app="web", tier="a"),
        service("none", "10.96.0.2"),
        pod("w1", "n1", "10.0.0.1", labels={"app": "web", "tier": "a", "more": "x"}),
        pod("w2", "n2", "10.0.0.2", labels={"app": "web"}),
        pod("w3", "n2", "10.0.0.3", namespace="dev", labels={"app": "web", "tier": "a"}),
    )
    assert names(held.selected(held.services["shop", "web"])) == ["w1"]
    assert held.selected(held.services["shop", "none"]) == []
    assert list(held.services_of(held.workloads["shop", "w1"])) == [("shop", "web")]
    assert list(held.services_of(held.workloads["shop", "w2"])) == []


def test_addresses_are_a_workloads_own_or_its_nodes() -> None:
    held = state(node("n1", "172.30.0.1", "fd00::1"), pod("a", "n1"), pod("b", "n9"))
    pod_ = pod("c", "n1", "10.0.0.1")
    assert held.addresses(held.workloads["shop", "a"]) == ("172.30.0.1", "fd00::1")
    assert held.addresses(held.workloads["shop", "b"]) == ()
    assert isinstance(pod_, Workload)
    assert held.addresses(pod_) == ("10.0.0.1",)


def test_a_nodes_addresses_do_not_lead_to_its_workloads() -> None:
    held = state(node("n1", "172.30.0.1"), pod("a", "n1"), pod("c", "n1", "10.0.0.1"))
    assert dict(held.index.at_address) == {"10.0.0.1": (("shop", "c"),)}
    assert dict(held.index.node_at) == {"172.30.0.1": ("n1",)}


def test_the_first_quarantine_by_name_counts() -> None:
    held = state(quarantine("b", "w1"), quarantine("a", "w1"))
    found = held.quarantine_of(("shop", "w1"))
    assert found is not None
    assert found.metadata.name == "a"
    assert held.quarantine_of(("shop", "w2")) is None


def test_guests_are_the_workloads_that_a_quarantine_lets_in() -> None:
    held = state(
        quarantine("q", "w1", {"namespace": "ops", "workload": "p"}, {"cidr": "10.0.0.0/8"})
    )
    assert dict(held.index.guests) == {("ops", "p"): (("shop", "q"),)}


def test_routes_are_found_from_both_their_ends() -> None:
    held = state(route("r", "web", "v1", "v2"))
    assert dict(held.index.routed) == {("shop", "web"): (("shop", "r"),)}
    assert set(held.index.routed_to) == {("shop", "v1"), ("shop", "v2")}


# -- what changes ----------------------------------------------------------------------------------


def test_a_snapshots_own_word_on_what_changed_is_taken() -> None:
    old, new = pod("w", "n1", "10.0.0.1"), pod("w", "n1", "10.0.0.2")
    gone = pod("gone", "n1", "10.0.0.3")
    before = making.keyed(old, gone)
    told = Snapshot(2, making.keyed(new), changed=frozenset({key_of(new)}))
    assert difference(before, told) == Changes({key_of(old): old}, {key_of(new): new})
    compared = difference(before, replace(told, changed=None))
    assert set(compared.old) == {key_of(old), key_of(gone)}
    assert set(compared.new) == {key_of(new)}


def test_what_is_equal_has_not_changed() -> None:
    one, same = pod("w", "n1", "10.0.0.1"), pod("w", "n1", "10.0.0.1")
    told = Snapshot(2, making.keyed(same), changed=frozenset({key_of(same), Key("Pod", "", "x")}))
    assert difference(making.keyed(one), told) == Changes()


def test_changed_objects_are_told_in_both_forms() -> None:
    old, new = pod("w", "n1", "10.0.0.1"), pod("w", "n2", "10.0.0.1")
    changes = Changes(making.keyed(old), making.keyed(new))
    assert list(changes.of(Workload)) == [old, new]
    assert list(changes.of(Service)) == []


def test_a_state_does_not_move_under_its_reader() -> None:
    first = state(pod("w", "n1", "10.0.0.1"))
    objects = making.keyed(pod("w", "n2", "10.0.0.2"))
    snapshot = Snapshot(2, objects)
    advance(first, snapshot, difference(dict(keyed_of(first)), snapshot))
    assert names(first.local) == ["w"]
    assert set(first.index.at_address) == {"10.0.0.1"}


def keyed_of(held: NodeState) -> list[tuple[Key, Resource]]:
    return [(key_of(o), o) for o in held.objects()]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.lists(worlds.anything(), max_size=6), min_size=1, max_size=4), st.data())
def test_step_by_step_or_all_at_once(
    steps: list[list[worlds.Manifest]], data: st.DataObject
) -> None:
    held, objects = NodeState("n1"), {}
    for revision, manifests in enumerate(steps, 1):
        kept = data.draw(st.sets(st.sampled_from(sorted(objects, key=str)))) if objects else set()
        after = {k: objects[k] for k in kept} | worlds.keyed(manifests)
        snapshot = Snapshot(revision, after)
        held = advance(held, snapshot, difference(objects, snapshot))
        objects = after
        assert held == build("n1", snapshot)
        assert {key_of(o): o for o in held.objects()} == objects
        assert {name_of(w) for w in held.local} == {
            name_of(o)
            for o in objects.values()
            if isinstance(o, Workload) and o.spec.node_name == "n1"
        }
