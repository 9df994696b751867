"""Finding workloads, and that what is taken over from the state before is right."""

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.state import State
from controller.workloads import Workloads
from meshapi.resources import Key, key_of

GROUPS = ("by_namespace", "by_node", "by_label")


def shown(groups):
    return {name: sorted(key_of(w) for w in group) for name, group in groups.items()}


def fresh(state):
    return Workloads(state.workloads.all)


changes = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.sampled_from(["n1", "n2", ""]),  # none: it is deleted
        st.sampled_from(["web", "db"]),
        st.booleans(),
    ),
    max_size=30,
)


@given(changes)
@settings(deadline=None)
def test_groups_are_what_building_them_anew_gives(make, steps):
    state = make.state()
    for name, node, app, tier in steps:
        assert all(getattr(state.workloads, g) is not None for g in GROUPS)  # has been built
        labels = {"app": app, **({"tier": "x"} if tier else {})}
        wanted = make.workload(name, node or "n1", f"10.0.0.{ord(name)}", labels=labels)
        if node:
            state = make.state(wanted, base=state)
        elif state.get(key_of(wanted)):
            state = make.deleted(state, wanted)
        for group in GROUPS:
            assert shown(getattr(state.workloads, group)) == shown(getattr(fresh(state), group))


def test_the_state_before_keeps_its_groups(make):
    before = make.state(make.workload("a", "n1"), make.workload("b", "n1"))
    kept = list(before.workloads.by_node["n1"])
    make.state(make.workload("a", "n2"), base=before)
    assert before.workloads.by_node["n1"] == kept


def test_groups_that_are_not_touched_are_the_same_lists(make):
    before = make.state(make.workload("a", "n1"), make.workload("b", "n2"))
    groups = before.workloads.by_node
    after = make.state(make.workload("a", "n1", labels={"x": "y"}), base=before)
    assert after.workloads.by_node["n2"] is groups["n2"]
    assert after.workloads.by_node["n1"] is not groups["n1"]


def test_the_labelling_changes_with_what_selectors_see(make):
    state = make.state(make.workload("a", "n1", "10.0.0.1"))

    def same_after(*wanted):
        return make.state(*wanted, base=state).workloads.labelling is state.workloads.labelling

    assert same_after(make.workload("a", "n2", "10.0.0.2"))
    assert same_after(make.service())
    assert not same_after(make.workload("a", "n1", "10.0.0.1", labels={"app": "b"}))
    assert not same_after(make.workload("a", "n1"))  # now in its host's network
    assert not same_after(make.workload("b", "n1"))
    gone = make.deleted(state, make.workload("a"))
    assert gone.workloads.labelling is not state.workloads.labelling


def test_many_changes_at_once_are_built_anew(make):
    state = make.state(make.workload("a", "n1"))
    assert state.workloads.by_node
    many = make.state(*(make.workload(f"w{i}", "n2") for i in range(100)), base=state)
    assert shown(many.workloads.by_node) == shown(fresh(many).by_node)
    assert len(many.workloads.by_node["n2"]) == 100


def test_nothing_is_in_no_workloads():
    assert State().workloads.by_label == {}
    assert Workloads({}).after({}, [Key("Workload", "a", "b")]).all == {}
