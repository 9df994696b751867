"""One object changes, whatever it is, and every write leaves the answers of before or of after.

As test_change.py, over worlds of every kind.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshapi.codec import decode
from meshapi.resources import Key, Resource, key_of
from meshapi.verdict import Verdict
from meshapi.watch import Snapshot
from nodeagent.desired.compiler import Compiler
from nodeagent.desired.plan import Delta, Table, ordered_removals, ordered_writes
from nodeagent.desired.units import Unit
from nodeagent.state import advance, difference, name_of
from tests.unit.nodeagent.desired import making, worlds
from tests.unit.nodeagent.desired.against import (
    Ask,
    Case,
    kernel_answer,
    node_classes,
    plain,
    tries,
)
from tests.unit.nodeagent.desired.model import Kernel
from tests.unit.nodeagent.desired.worlds import Manifest, keyed

Answers = set[tuple[Verdict, bool, str]]
Said = dict[Ask, Answers]

KINDS = {
    "NetworkPolicy": worlds.network_policies(),
    "ClusterNetworkPolicy": worlds.cluster_policies(),
    "AuthorizationPolicy": worlds.authorization_policies(),
    "Quarantine": worlds.quarantines(),
    "BlockList": worlds.block_lists(),
    "Workload": worlds.workloads(),
    "Service": worlds.services(),
    "HTTPRoute": worlds.routes(),
    "MeshNode": worlds.nodes(),
    "Namespace": worlds.namespaces(),
}


def both_hold(before: Answers, after: Answers) -> Answers:
    """What two consents come to: told as one of them, strict if one of them is."""
    return {
        (verdict, one[1] or other[1], to)
        for one in before
        for other in after
        if Verdict.DENY not in (one[0], other[0])
        for verdict, _, to in (one, other)
    }


def tell(compiler: Compiler, before: dict[Key, Resource], case: Case) -> list[Delta]:
    snapshot = Snapshot(compiler.state.revision + 1, case.objects, case.mesh)
    changes = difference(before, snapshot)
    return compiler.update(advance(compiler.state, snapshot, changes), changes, case.facts)


class Watched:
    """A kernel that is asked after every write."""

    def __init__(self, compiler: Compiler, asks: list[Ask]) -> None:
        self.classes = node_classes(compiler.settings)
        self.asks = asks
        self.kernel = Kernel(copy.deepcopy(compiler.tables))
        self.before = self.said()
        self.after: Said = {ask: set() for ask in asks}
        self.late: dict[str, set[bytes]] = {}

    def said(self) -> Said:
        return {
            ask: {plain(o) for o in kernel_answer(self.kernel, self.classes, ask)}
            for ask in self.asks
        }

    def carry_out(self, delta: Delta) -> None:
        for name, entries in ordered_writes(delta):
            for key, value in entries:
                self.kernel.tables[name][key] = value
                self.late.get(name, set()).discard(key)
                self.check(name)
        self.remove(delta.removals)
        for name, keys in delta.late.items():
            self.late.setdefault(name, set()).update(keys)
        if delta.settings is not None:
            self.classes = node_classes(delta.settings)
            self.check("settings")

    def remove(self, removals: dict[str, set[bytes]]) -> None:
        tables = self.kernel.tables
        for name, keys in ordered_removals({n: removals.get(n, set()) for n in tables}):
            for key in keys:
                tables[name].pop(key, None)
                self.check(f"{name} removed")

    def check(self, where: str) -> None:
        for ask, got in self.said().items():
            before, after = self.before[ask], self.after[ask]
            strange = got - before - after - both_hold(before, after)
            assert not strange, (where, ask, strange, self.before[ask], self.after[ask])


def walk(compiler: Compiler, case: Case, other: Case, asks: list[Ask]) -> None:
    tell(compiler, {}, case)
    watched = Watched(compiler, asks)
    deltas = tell(compiler, case.objects, other)
    tables: dict[str, Table] = compiler.tables
    watched.after = Watched(compiler, asks).said()
    for delta in deltas:
        watched.carry_out(delta)
    assert watched.said() == watched.after
    watched.before = watched.after
    watched.remove(watched.late)
    watched.late = {}
    settled = compiler.settle()
    if settled is not None:
        watched.carry_out(settled)
        watched.remove(watched.late)
    assert watched.kernel.tables == tables


@pytest.mark.parametrize("kind", KINDS)
@tries(15)
@given(st.data(), worlds.meshes(), st.booleans(), st.integers(0, 1 << 16))
def test_every_step_answers_like_before_or_after(
    kind: str, data: st.DataObject, manifests: list[Manifest], redirects: bool, seed: int
) -> None:
    changed = decode(data.draw(KINDS[kind]))
    objects = keyed(manifests)
    without = {k: o for k, o in objects.items() if k != key_of(changed)}
    ways = [(objects, {**objects, key_of(changed): changed})]  # added, or another
    if kind != "MeshNode":
        ways.append(({**objects, key_of(changed): changed}, without))
    before, after = (Case(o, redirects=redirects) for o in data.draw(st.sampled_from(ways)))
    here = {name_of(w) for w in before.own} & {name_of(w) for w in after.own}
    asks = [
        ask
        for ask in dict.fromkeys((*before.questions(seed), *after.questions(seed)))
        if ask.hook == "unenrolled" or ask.workload in here
    ]
    drawn = random.Random(seed)  # noqa: S311 - Hypothesis chooses the seed
    walk(Compiler("n1"), before, after, drawn.sample(asks, min(len(asks), 40)))


class Ordered(Compiler):
    """Units in one order or the other; of its own accord it is any."""

    def __init__(self, *, backwards: bool) -> None:
        super().__init__("n1")
        self.backwards = backwards

    def _finish(self, stale: Iterable[Unit]) -> Delta:
        return super()._finish(dict.fromkeys(sorted(stale, reverse=self.backwards)))  # type: ignore[arg-type]


@pytest.mark.parametrize("backwards", [False, True])
def test_a_class_stays_a_source_while_its_user_may_still_be_met(backwards: bool) -> None:
    objects = making.keyed(
        making.node("n1", "172.30.0.1"),
        making.node("n2", "172.30.0.2"),
        making.pod("w1", "n2"),
        making.quarantine("q", "w1", {"cidr": "172.30.0.0/16"}),
    )
    mentioned = decode(
        {
            "apiVersion": "policy.networking.k8s.io/v1alpha2",
            "kind": "ClusterNetworkPolicy",
            "metadata": {"name": "out"},
            "spec": {
                "tier": "Admin",
                "priority": 0,
                "subject": {"namespaces": {}},
                "egress": [{"action": "Accept", "to": [{"networks": ["172.30.0.0/24"]}]}],
            },
        }
    )
    after = {**objects, key_of(mentioned): mentioned}
    ask = Ask("unenrolled", ("", ""), "172.30.0.2", "TCP", 9001)
    walk(Ordered(backwards=backwards), Case(objects), Case(after), [ask])
