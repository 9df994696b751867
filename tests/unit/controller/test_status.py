import pytest
from msgspec.structs import replace

from controller.reports import Reports
from controller.status import look
from meshapi.resources import Key, NodeProblem, PolicyCut, key_of

SEEN = "2026-01-01T00:00:00Z"

NOW = 1000.0


@pytest.fixture
def mesh(make):
    """Two nodes with workloads, one without; a routed service."""
    return make.state(
        make.node("n1"),
        make.node("n2"),
        make.node("idle"),
        make.workload("web-1", "n1", "10.0.0.1"),
        make.workload("web-2", "n2", "10.0.0.2"),
        make.service("web"),
        make.route("web", "web", "web"),
        make.policy("guard", app="web"),
        make.policy("nobody", app="nobody"),
    )


def reported(make, **revisions):
    reports = Reports()
    for name, (agent, l7proxy) in revisions.items():
        reports.put(name, make.report(agent), NOW, SEEN)
        if l7proxy is not None:
            reports.put(name, make.report(l7proxy, "l7proxy"), NOW, SEEN)
    return reports


def conditions(state, reports, kind, name):
    shown = look(state, reports, NOW).show(state.get(Key(kind, "shop", name)))
    found = shown.status.parents[0].conditions if kind == "HTTPRoute" else shown.status.conditions
    return {c.type: c for c in found}


def test_a_route_is_programmed_when_every_node_with_workloads_has_it(make, mesh):
    newest = mesh.revision
    got = conditions(
        mesh, reported(make, n1=(newest, newest), n2=(newest, newest)), "HTTPRoute", "web"
    )
    assert {t: c.status for t, c in got.items()} == {
        "Accepted": "True",
        "ResolvedRefs": "True",
        "Programmed": "True",
    }
    assert got["Programmed"].message == "in force on 2 of 2 nodes"
    assert got["Accepted"].observed_generation == 1


@pytest.mark.parametrize(
    ("n2", "words"),
    [
        ((1, 1), "n2: agent is at revision 1"),
        ((10_000, None), "n2: l7proxy has not reported"),
        (None, "n2: agent has not reported"),
    ],
)
def test_a_route_is_pending_while_a_node_is_behind(make, mesh, n2, words):
    got = {"n1": (10_000, 10_000)} | ({"n2": n2} if n2 else {})
    programmed = conditions(mesh, reported(make, **got), "HTTPRoute", "web")["Programmed"]
    assert (programmed.status, programmed.reason) == ("Unknown", "Pending")
    assert words in programmed.message
    assert "n1" not in programmed.message


def test_a_nodes_refusal_is_shown_with_its_own_words(make, mesh):
    reports = reported(make, n1=(10_000, 10_000), n2=(10_000, 10_000))
    problem = NodeProblem(kind="HTTPRoute", namespace="shop", name="web", message="bad regex: (?=")
    reports.put("n2", make.report(10_000, "l7proxy", problems=(problem,)), NOW, SEEN)
    programmed = conditions(mesh, reports, "HTTPRoute", "web")["Programmed"]
    assert (programmed.status, programmed.message) == ("False", "n2: bad regex: (?=")
    assert conditions(mesh, reports, "Service", "web")["Programmed"].status == "True"


def test_a_route_says_what_it_misses(make, mesh):
    state = make.state(
        make.route("lost", "nix", "web"),
        make.route("half", "web", "web", "web-v2"),
        make.route("port", "web", "web", port=81),
        base=mesh,
    )
    lost = conditions(state, Reports(), "HTTPRoute", "lost")
    assert lost["Accepted"].reason == "NoMatchingParent"
    assert lost["Accepted"].message == "Service shop/nix does not exist"
    assert lost["Programmed"].status == "False"
    half = conditions(state, Reports(), "HTTPRoute", "half")["ResolvedRefs"]
    assert half.reason == "BackendNotFound"
    assert half.message == "$.spec.rules[0].backendRefs[1]: Service shop/web-v2 does not exist"
    port = conditions(state, Reports(), "HTTPRoute", "port")["ResolvedRefs"]
    assert port.message.endswith("Service shop/web has no port 81")


def test_a_service_counts_its_ready_backends(make, mesh):
    def ready(state, name):
        condition = conditions(state, Reports(), "Service", name)["Ready"]
        return condition.status, condition.reason, condition.message

    assert ready(mesh, "web") == ("False", "NoReadyBackends", "0 of 2 backends ready")
    workload = mesh.get(Key("Workload", "shop", "web-1"))
    up = replace(workload, status=replace(workload.status, ready=True))
    state = mesh.with_changes({key_of(up): up})
    assert ready(state, "web") == ("True", "BackendsReady", "1 of 2 backends ready")
    sick = replace(up, status=replace(up.status, unhealthy_ports=(80,)))
    state = mesh.with_changes({key_of(sick): sick})
    assert ready(state, "web") == (
        "False",
        "NoReadyBackends",
        "0 of 2 backends ready; 1 unhealthy or of weight 0",
    )
    state = make.state(make.service("lonely"), make.service("none", selector={}), base=mesh)
    assert ready(state, "lonely")[1:] == ("NoBackends", "no workload matches its selector")
    assert ready(state, "none")[1:] == ("NoBackends", "the service has no selector")


def test_a_policy_that_selects_nobody_is_not_waited_for(make, mesh):
    assert (
        conditions(mesh, Reports(), "NetworkPolicy", "nobody")["Programmed"].reason == "NotNeeded"
    )
    assert conditions(mesh, Reports(), "NetworkPolicy", "guard")["Programmed"].reason == "Pending"


def computed(state, reports, kind, name, namespace="shop"):
    shown = look(state, reports, NOW).show(state.get(Key(kind, namespace, name)))
    return {c.type: (c.status, c.reason, c.message) for c in shown.status.conditions}


def test_policies_of_every_kind_are_programmed_or_not_needed(make, mesh):
    state = make.state(
        make.cluster_policy("all", {"namespaces": {}}),
        make.cluster_policy("nobody", {"namespaces": {"matchLabels": {"no": "body"}}}),
        make.authorization("all"),
        make.authorization("nobody", app="nobody"),
        make.blocks("bad", "203.0.113.0/24"),
        base=mesh,
    )
    reports = reported(make, n1=(state.revision, None), n2=(state.revision, None))
    for kind, namespace in (("ClusterNetworkPolicy", ""), ("AuthorizationPolicy", "shop")):
        there = computed(state, reports, kind, "all", namespace)
        assert there["Programmed"] == ("True", "Programmed", "in force on 2 of 2 nodes")
        nobody = computed(state, reports, kind, "nobody", namespace)
        assert nobody["Programmed"] == ("Unknown", "NotNeeded", "it selects no workload")
    assert computed(state, reports, "BlockList", "bad", "")["Programmed"][0] == "True"
    assert computed(state, Reports(), "BlockList", "bad", "")["Programmed"][1] == "Pending"


def test_a_policy_counts_the_connections_that_nodes_have_ended_for_it(make, mesh):
    reports = Reports()
    uid = mesh.get(Key("NetworkPolicy", "shop", "guard")).metadata.uid
    for node, count in (("n1", 2), ("n2", 3)):
        cut = PolicyCut(
            kind="NetworkPolicy", namespace="shop", name="guard", uid=uid, connections=count
        )
        elsewhere, earlier = replace(cut, namespace="dev"), replace(cut, uid="earlier")
        reports.put(node, make.report(mesh.revision, cut=(cut, elsewhere, earlier)), NOW, SEEN)
    view = look(mesh, reports, NOW)
    counts = {
        name: view.show(mesh.get(Key("NetworkPolicy", "shop", name))).status.connections_cut
        for name in ("guard", "nobody")
    }
    assert counts == {"guard": 5, "nobody": 0}


def test_a_traffic_policy_says_which_service_it_misses(make, mesh):
    state = make.state(
        make.traffic("web"),
        make.traffic("half", "api", "nix"),
        make.traffic("none", "nought"),
        make.service("api"),
        base=mesh,
    )
    reports = reported(make, n1=(state.revision, None), n2=(state.revision, None))
    whole = computed(state, reports, "TrafficPolicy", "web")
    assert (whole["ResolvedRefs"][0], whole["Programmed"][0]) == ("True", "True")
    half = computed(state, reports, "TrafficPolicy", "half")
    assert half["ResolvedRefs"] == (
        "False",
        "TargetNotFound",
        "$.spec.targetRefs[1]: Service shop/nix does not exist",
    )
    assert half["Programmed"][0] == "True"
    none = computed(state, reports, "TrafficPolicy", "none")
    assert none["Programmed"] == ("Unknown", "NotNeeded", "none of its services exists")


def test_a_quarantine_is_in_force_before_its_workload_exists(make, mesh):
    state = make.state(make.quarantine("web-1"), make.quarantine("nix"), base=mesh)
    reports = reported(make, n1=(state.revision, None), n2=(state.revision, None))
    there, later = (computed(state, reports, "Quarantine", n) for n in ("web-1", "nix"))
    assert there["ResolvedRefs"][0] == "True"
    assert later["ResolvedRefs"][1:] == (
        "WorkloadNotFound",
        "$.spec.workload: Workload shop/nix does not exist",
    )
    assert there["Programmed"] == later["Programmed"]
    assert there["Programmed"][0] == "True"


def test_a_node_shows_what_it_reported(make, mesh):
    view = look(mesh, reported(make, n1=(5, 4)), NOW)
    shown = view.show(mesh.node("n1"))
    assert (shown.status.ready, shown.status.applied_revision) == (True, 4)


def test_a_node_of_a_dry_run_is_shown_as_it_is(make, mesh):
    node = make.node("new")
    assert look(mesh, Reports(), NOW).show(node) == node


def test_an_object_of_a_dry_run_is_pending(make, mesh):
    reports = reported(make, n1=(10_000, 10_000), n2=(10_000, 10_000))
    shown = look(mesh, reports, NOW).show(make.service("new"))
    assert {c.type: c.reason for c in shown.status.conditions}["Programmed"] == "Pending"
