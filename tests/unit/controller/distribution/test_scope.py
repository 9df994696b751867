import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.admission import AdmissionError
from controller.distribution.scope import Scopes, changed, delta, scope, scopes
from meshapi.resources import Key, key_of
from meshapi.watch import FeedReducer


@pytest.fixture
def mesh(make):
    return make.state(
        make.node("n1"),
        make.node("idle"),
        make.workload("web-1", "n1", "10.0.0.1", annotations={"note": "x"}),
        make.workload("web-2", "n2", "10.0.0.2", annotations={"note": "x"}),
        make.service(),
        make.route("web", "web", "web"),
        make.route("orphan", "nix", "web"),
        make.policy("guard", app="web"),
        make.policy("nobody", app="nobody"),
    )


def names(objects):
    return sorted(f"{key.kind}/{key.name}" for key in objects)


def test_a_node_without_workloads_needs_itself_only(mesh):
    assert names(scope(mesh, "idle")) == ["MeshNode/idle"]
    assert scope(mesh, "stranger") == {}


def test_a_node_with_workloads_needs_what_can_concern_it(mesh):
    assert names(scope(mesh, "n1")) == [
        "HTTPRoute/web",
        "MeshNode/idle",
        "MeshNode/n1",
        "Namespace/shop",
        "NetworkPolicy/guard",
        "Service/web",
        "Workload/web-1",
        "Workload/web-2",
    ]


def test_others_workloads_come_without_what_only_their_node_uses(mesh):
    seen = scope(mesh, "n1")
    mine, other = (seen[Key("Workload", "shop", n)] for n in ("web-1", "web-2"))
    assert (mine.spec.cgroup, mine.metadata.annotations) == ("pods/web-1", {"note": "x"})
    assert (other.spec.cgroup, other.metadata.annotations) == ("-", {})
    assert other.status.identity == mine.status.identity
    assert other.spec.addresses == ("10.0.0.2",)


def test_an_object_is_rendered_once_for_all(make, mesh):
    first = scopes(mesh, Scopes())
    second = scopes(make.state(make.service("new"), base=mesh), first)
    for kind, frames in first.shared.items():
        assert kind in {"Service", "HTTPRoute"} or second.shared[kind] is frames
        assert all(second.shared[kind][key] is frame for key, frame in frames.items())
    assert second.own is first.own
    assert changed(first, second) == [Key("Service", "shop", "new")]


# -- property: following the deltas leads to the scope, whatever happens ---------------------------

nodes = st.sampled_from(["n1", "n2", "n3"])
operations = st.one_of(
    st.tuples(st.just("workload"), st.sampled_from("abc"), nodes),
    st.tuples(st.just("service"), st.sampled_from("ab"), st.just("")),
    st.tuples(st.just("route"), st.sampled_from("ab"), st.sampled_from("ab")),
    st.tuples(st.just("policy"), st.sampled_from("ab"), st.sampled_from("abc")),
    st.tuples(st.just("node"), nodes, st.just("")),
    st.tuples(st.just("namespace"), st.sampled_from(["dev", "ops"]), st.just("")),
)
steps = st.lists(st.tuples(st.booleans(), operations, st.booleans()), max_size=25)


def wanted(make, operation):
    match operation:
        case "workload", name, node:
            return make.workload(name, node, f"10.0.0.{ord(name)}")
        case "service", name, _:
            return make.service(name)
        case "route", name, parent:
            return make.route(name, parent, parent)
        case "policy", name, app:
            return make.policy(name, app=app)
        case "node", name, _:
            return make.node(name)
        case "namespace", name, _:
            return make.namespace(name)


@given(steps)
@settings(max_examples=150, deadline=None)
def test_deltas_lead_to_the_scope(make, steps):
    state = make.state(make.node("n1"), make.node("n2"))
    before, sent = Scopes(), {n: Scopes() for n in ("n1", "n2", "n3")}
    readers = {n: FeedReducer() for n in sent}
    for delete, operation, wake in [*steps, (False, ("service", "a", ""), True)]:
        resource = wanted(make, operation)
        if delete:
            present = state.get(key_of(resource))
            state = make.deleted(state, resource) if present else state
        else:
            try:
                state = make.state(resource, base=state)
            except AdmissionError:
                continue
        before = scopes(state, before)
        if not wake:  # a reader that is behind takes several steps at once
            continue
        for node, reader in readers.items():
            shared = changed(sent[node], before)
            for line in delta(sent[node], before, node, shared):
                reader.feed(line)
            sent[node] = before
            assert reader.objects == scope(state, node)
