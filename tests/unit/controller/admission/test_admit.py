import pytest
from msgspec.structs import replace

from controller.admission import AdmissionError, admit, create, remove
from controller.errors import AlreadyExistsError
from controller.state import State
from meshapi.errors import ConflictError, ForbiddenError, NotFoundError
from meshapi.identity import FIRST
from meshapi.resources import Key, key_of

NAMESPACE = Key("Namespace", "", "shop")


def test_a_namespace_may_come_with_what_is_in_it_in_any_order(make):
    plan = make.plan(State(), make.service(), make.namespace())
    assert [w.key.kind for w in plan.writes] == ["Service", "Namespace"]


def test_a_missing_namespace_is_refused_at_its_path(make):
    with pytest.raises(AdmissionError) as caught:
        make.plan(make.state(), make.service(namespace="dev"), make.service("x", namespace="dev"))
    assert [(r.index, r.subject, r.problem.path) for r in caught.value.refusals] == [
        (0, "Service dev/web", "$.metadata.namespace"),
        (1, "Service dev/x", "$.metadata.namespace"),
    ]


def test_server_fields_are_the_servers(make):
    wanted = make.resource(
        "Service",
        "web",
        {"ports": [{"port": 80}]},
        generation=9,
        creationTimestamp="1999-01-01T00:00:00Z",
    )
    state = make.state(wanted)
    meta = state.service("shop", "web").metadata
    assert (meta.generation, meta.creation_timestamp) == (1, "2026-01-01T00:00:00Z")
    assert meta.uid.startswith("uid-")
    again = make.state(make.service(ports=[{"port": 81}]), base=state).service("shop", "web")
    assert again.metadata.generation == 2
    assert again.metadata.uid == meta.uid


def test_labels_alone_are_no_new_generation(make):
    state = make.state(make.workload("web-1"))
    plan = make.plan(state, make.workload("web-1", labels={"x": "y"}))
    assert plan.writes[0].new.metadata.generation == 1


def test_what_is_the_same_is_not_written(make):
    objects = [make.service(), make.workload("web-1"), make.policy("p", app="web")]
    state = make.state(*objects)
    plan = make.plan(state, *objects)
    assert plan.writes == ()
    assert len(plan.admitted) == 3


def test_a_version_or_uid_that_is_given_must_be_the_current_one(make):
    state = make.state(make.service())
    version = state.service("shop", "web").metadata.resource_version
    current = make.service()
    admit(
        state,
        [replace(current, metadata=replace(current.metadata, resource_version=version))],
        make.rules,
    )
    for stale in ({"resource_version": "1"}, {"uid": "other"}):
        wanted = replace(current, metadata=replace(current.metadata, **stale))
        with pytest.raises(ConflictError):
            admit(state, [wanted], make.rules)
    gone = replace(
        make.service("x"), metadata=replace(make.service("x").metadata, resource_version="1")
    )
    with pytest.raises(ConflictError, match="does not exist any more"):
        admit(state, [gone], make.rules)


def test_create_refuses_what_is_there(make):
    with pytest.raises(AlreadyExistsError, match="Service shop/web already exists"):
        create(make.state(make.service()), make.service(), make.rules)


def test_the_same_object_twice_is_refused(make):
    with pytest.raises(AdmissionError, match="stands there twice"):
        make.plan(make.state(), make.service(), make.service())


def test_kubernetes_defaults_are_written(make):
    state = make.state(make.policy("p"), make.namespace("dev"))
    assert state.get(Key("NetworkPolicy", "shop", "p")).spec.policy_types == ("Ingress",)
    assert state.namespace("dev").metadata.labels == {"kubernetes.io/metadata.name": "dev"}


def test_identities_are_stamped_and_survive_the_workload(make):
    state = make.state(make.workload("a", spec={"serviceAccount": "x"}), make.workload("b"))
    a, b = (state.get(Key("Workload", "shop", n)).status for n in "ab")
    assert (a.identity, b.identity) == (FIRST, FIRST + 1)
    assert a.spiffe_id == "spiffe://test.local/ns/shop/sa/x"
    gone = make.deleted(state, make.workload("a"), make.workload("b"))
    again = make.state(
        make.workload("c", spec={"serviceAccount": "y"}), make.workload("b"), base=gone
    )
    assert again.get(Key("Workload", "shop", "b")).status.identity == b.identity
    assert again.get(Key("Workload", "shop", "c")).status.identity == FIRST + 2


def test_readiness_is_kept_until_the_workload_moves(make):
    state = make.state(make.workload("web-1"))
    workload = state.get(Key("Workload", "shop", "web-1"))
    ready = replace(workload, status=replace(workload.status, ready=True, message="up"))
    state = state.with_changes({key_of(ready): ready})
    same = make.plan(state, make.workload("web-1", labels={"x": "y"})).admitted[0]
    assert (same.status.ready, same.status.message) == (True, "up")
    moved = make.plan(state, make.workload("web-1", node="n2")).admitted[0]
    assert (moved.status.ready, moved.status.message) == (False, "")


def test_a_namespace_with_something_in_it_stays(make):
    state = make.state(make.service(), *(make.workload(f"w{i}") for i in range(9)))
    with pytest.raises(
        ConflictError, match=r"holds Service shop/web, Workload shop/w0.* and 5 more"
    ):
        remove(state, NAMESPACE)
    emptied = make.deleted(
        state, *(r for k in ("Service", "Workload") for r in state.kinds[k].values())
    )
    assert remove(emptied, NAMESPACE).writes[0].new is None


def test_built_in_namespaces_stay(make):
    state = make.state(make.namespace("default"))
    with pytest.raises(ForbiddenError, match="cannot be deleted"):
        remove(state, Key("Namespace", "", "default"))


def test_a_deletion_has_its_conditions(make):
    state = make.state(make.service())
    key = Key("Service", "shop", "web")
    with pytest.raises(NotFoundError):
        remove(state, Key("Service", "shop", "nix"))
    for stale in ({"uid": "x"}, {"resource_version": "1"}):
        with pytest.raises(ConflictError):
            remove(state, key, **stale)
    version = state.service("shop", "web").metadata.resource_version
    assert remove(state, key, resource_version=version).writes


def test_every_refusal_of_a_batch_is_told(make):
    with pytest.raises(AdmissionError) as caught:
        make.plan(
            make.state(),
            make.service(clusterIP="1.1.1.1"),
            make.service("ok"),
            make.workload("a", address="10.0.0.1"),
            make.workload("b", address="10.0.0.1"),
        )
    about = caught.value.about_several()
    assert [p.path for p in about.problems] == [
        "$.objects[0].spec.clusterIP",
        "$.objects[2].spec.addresses[0]",
        "$.objects[3].spec.addresses[0]",
    ]
    assert "Service shop/web: 1.1.1.1 is outside" in about.problems[0].what
