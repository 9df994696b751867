"""One object changes, whatever it is, and every write leaves the answers of before or of after.

As test_change.py, over worlds of every kind.
"""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshapi.codec import decode
from meshapi.resources import Key, Resource, key_of
from meshapi.watch import Snapshot
from nodeagent.desired.compiler import Compiler
from nodeagent.desired.plan import Delta, Table, ordered_removals, ordered_writes
from nodeagent.state import advance, difference, name_of
from tests.unit.nodeagent.desired import worlds
from tests.unit.nodeagent.desired.against import (
    PHASES,
    Ask,
    Case,
    examples,
    kernel_answer,
    node_classes,
    plain,
)
from tests.unit.nodeagent.desired.model import Kernel
from tests.unit.nodeagent.desired.worlds import Manifest, keyed

Said = dict[Ask, set[Any]]

KINDS = {
    "NetworkPolicy": worlds.network_policies(),
    "ClusterNetworkPolicy": worlds.cluster_policies(),
    "AuthorizationPolicy": worlds.authorization_policies(),
    "Quarantine": worlds.quarantines(),
    "Workload": worlds.workloads(),
    "Service": worlds.services(),
    "HTTPRoute": worlds.routes(),
    "MeshNode": worlds.nodes(),
    "Namespace": worlds.namespaces(),
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
        self.after: Said = {}
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
            strange = got - self.before[ask] - self.after[ask]
            assert not strange, (where, ask, strange, self.before[ask], self.after[ask])


def walk(case: Case, other: Case, asks: list[Ask]) -> None:
    compiler = Compiler("n1")
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
@settings(max_examples=examples(15), deadline=None, phases=PHASES)
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
    walk(before, after, drawn.sample(asks, min(len(asks), 40)))
