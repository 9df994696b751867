from controller.state import State
from meshapi.resources import Key, Service


def test_a_change_leaves_the_old_state_as_it_was(make):
    before = make.state(make.service("web"))
    after = make.deleted(before, make.service("web"))
    assert before.service("shop", "web") is not None
    assert after.service("shop", "web") is None
    assert after.kinds["Namespace"] is before.kinds["Namespace"]


def test_workloads_are_grouped_by_namespace_and_node(make):
    state = make.state(make.workload("web-1", "n1", "10.0.0.1"), make.workload("web-2", "n2"))
    assert [w.metadata.name for w in state.workloads.by_namespace["shop"]] == ["web-1", "web-2"]
    assert [w.metadata.name for w in state.workloads.by_node["n2"]] == ["web-2"]


def test_an_empty_selector_selects_no_backend(make):
    state = make.state(
        make.workload("web-1"), make.service("web"), make.service("none", selector={})
    )
    services = state.of(Service)
    assert len(state.backends(services[Key("Service", "shop", "web")])) == 1
    assert state.backends(services[Key("Service", "shop", "none")]) == []


def test_nothing_is_in_an_empty_state():
    assert State().get(Key("Service", "a", "b")) is None
    assert not State().of(Service)
