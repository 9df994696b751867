"""The kernel tables that the compiler makes answer as the reference evaluator does."""

from __future__ import annotations

from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st

from meshapi.verdict import Reason
from meshapi.wire import MeshSettings
from tests.unit.nodeagent.desired import worlds
from tests.unit.nodeagent.desired.against import (
    Case,
    kernel_answer,
    node_classes,
    plain,
    reference_answer,
    refuses,
    refusing_rules,
    told,
    tries,
)
from tests.unit.nodeagent.desired.model import Kernel
from tests.unit.nodeagent.desired.test_compiler import Follower
from tests.unit.nodeagent.desired.worlds import Manifest, keyed

seeds = st.integers(0, 1 << 16)
meshes_of = st.builds(
    lambda root, domain: MeshSettings(root_namespace=root, trust_domain=domain),
    st.sampled_from(("hoplite-system", "hoplite-system", "shop")),
    st.sampled_from(("hoplite.local", "hoplite.local", "cluster.local", "other.example")),
)


def check(follower: Follower, case: Case, seed: int) -> None:
    kernel, classes = Kernel(follower.kernel), node_classes(follower.compiler.settings)
    for ask in case.questions(seed):
        expected = reference_answer(case, ask)
        got = kernel_answer(kernel, classes, ask)
        assert Reason.POLICY_PENDING not in {o.reason for o in got}
        if not expected:
            continue
        assert {plain(o) for o in got} == {plain(o) for o in expected}, (ask, got, expected)
        named = {told(o, follower.compiler.rules) for o in got if o.rule and refuses(o)}
        assert named <= {r for o in expected for r in refusing_rules(o)}, (ask, named, expected)
        for outcome in expected:
            event(f"{ask.hook} {outcome.verdict.name}{' strict' if outcome.strict else ''}")


@tries(200)
@given(worlds.meshes(), st.booleans(), meshes_of, seeds)
def test_every_answer_is_that_of_the_reference(
    manifests: list[Manifest], redirects: bool, mesh: MeshSettings, seed: int
) -> None:
    case, follower = Case(keyed(manifests), mesh, redirects), Follower()
    follower.tell(case.objects, case.facts, case.mesh)
    check(follower, case, seed)


steps = st.tuples(
    st.lists(worlds.anything(), max_size=3),  # put
    st.sets(st.integers(0, 20), max_size=2),  # delete, by position
    st.booleans(),
    meshes_of,
)


@tries(40)
@given(worlds.meshes(), st.lists(steps, min_size=1, max_size=4), seeds)
def test_so_it_is_after_any_changes(
    manifests: list[Manifest], changes: list[Any], seed: int
) -> None:
    case, follower = Case(keyed(manifests)), Follower()
    follower.tell(case.objects, case.facts, case.mesh)
    for put, deleted, redirects, mesh in changes:
        keys = [key for key in case.objects if key.kind != "MeshNode"]
        gone = {keys[i] for i in deleted if i < len(keys)}
        kept = {k: o for k, o in case.objects.items() if k not in gone}
        case = Case(kept | keyed(put), mesh, redirects)
        follower.tell(case.objects, case.facts, case.mesh)
        check(follower, case, seed)
        follower.settle()
        check(follower, case, seed)
