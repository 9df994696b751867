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
        make.traffic("web"),
        make.traffic("orphan", "nix", "nought"),
        make.quarantine("web-1"),
        make.quarantine("not-there"),
        make.blocks("bad", "203.0.113.0/24"),
        make.cluster_policy("all", {"namespaces": {}}),
        make.cluster_policy("none", {"namespaces": {"matchLabels": {"no": "body"}}}),
        make.authorization("app", app="web"),
        make.authorization("nobody", app="nobody"),
    )


def names(objects):
    return sorted(f"{key.kind}/{key.name}" for key in objects)


def test_a_node_without_workloads_needs_itself_only(mesh):
    assert names(scope(mesh, "idle")) == ["MeshNode/idle"]
    assert scope(mesh, "stranger") == {}


def test_a_node_with_workloads_needs_what_can_concern_it(mesh):
    assert names(scope(mesh, "n1")) == [
        "AuthorizationPolicy/app",
        "BlockList/bad",
        "ClusterNetworkPolicy/all",
        "HTTPRoute/web",
        "MeshNode/idle",
        "MeshNode/n1",
        "Namespace/shop",
        "NetworkPolicy/guard",
        "Quarantine/not-there",
        "Quarantine/web-1",
        "Service/web",
        "TrafficPolicy/web",
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
        assert kind == "Service" or second.shared[kind] is frames
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
    st.tuples(st.just("cluster"), st.sampled_from("ab"), st.sampled_from("abc")),
    st.tuples(st.just("cluster of"), st.sampled_from("ab"), st.sampled_from(["blue", "red"])),
    st.tuples(st.just("authorization"), st.sampled_from("ab"), st.sampled_from("abc")),
    st.tuples(st.just("root"), st.sampled_from("ab"), st.sampled_from("abc")),
    st.tuples(st.just("traffic"), st.sampled_from("ab"), st.sampled_from("ab")),
    st.tuples(st.just("quarantine"), st.sampled_from("ab"), st.sampled_from("ab")),
    st.tuples(st.just("blocks"), st.sampled_from("ab"), st.just("")),
    st.tuples(st.just("node"), nodes, st.just("")),
    st.tuples(st.just("namespace"), st.sampled_from(["dev", "ops"]), st.just("")),
    st.tuples(st.just("paint"), st.sampled_from(["blue", "red"]), st.just("")),
)
steps = st.lists(st.tuples(st.booleans(), operations, st.booleans()), min_size=20, max_size=60)


WANTED = {
    "workload": lambda m, name, node: m.workload(name, node, f"10.0.0.{ord(name)}"),
    "service": lambda m, name, _: m.service(name),
    "route": lambda m, name, parent: m.route(name, parent, parent),
    "policy": lambda m, name, app: m.policy(name, app=app),
    "cluster": lambda m, name, app: m.cluster_policy(
        name, {"pods": {"podSelector": {"matchLabels": {"app": app}}}}
    ),
    "cluster of": lambda m, name, team: m.cluster_policy(
        name, {"namespaces": {"matchLabels": {"team": team}}}
    ),
    "authorization": lambda m, name, app: m.authorization(name, app=app),
    "root": lambda m, name, app: m.authorization(name, "hoplite-system", app=app),
    "traffic": lambda m, name, service: m.traffic(name, service),
    "quarantine": lambda m, name, workload: m.quarantine(name, workload),
    "blocks": lambda m, name, _: m.blocks(name, "203.0.113.0/24"),
    "node": lambda m, name, _: m.node(name),
    "namespace": lambda m, name, _: m.namespace(name),
    "paint": lambda m, team, _: m.namespace(team=team),
}


@given(steps)
@settings(max_examples=150, deadline=None)
def test_deltas_lead_to_the_scope(make, steps):
    root = make.namespace("hoplite-system")
    state = make.state(make.node("n1"), make.node("n2"), root)
    before, sent = Scopes(), {n: Scopes() for n in ("n1", "n2", "n3")}
    readers = {n: FeedReducer() for n in sent}
    for delete, operation, wake in [*steps, (False, ("service", "a", ""), True)]:
        kind, *about = operation
        resource = WANTED[kind](make, *about)
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
