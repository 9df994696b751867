"""Change by change or all at once: the compiler comes to the same tables."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshapi.resources import Key, Resource
from meshapi.watch import Snapshot
from meshapi.wire import MeshSettings
from nodeagent.desired.compiler import Compiler
from nodeagent.desired.plan import Table
from nodeagent.desired.units import Facts, HostEnd, Interfaces
from nodeagent.state import advance, build, difference
from tests.unit.nodeagent.desired.worlds import Manifest, anything, balancing, keyed

FACTS = Facts(proxy4="169.254.77.1", proxy6="fd6d:6573:6800:ffff::1", proxy_port=15001)


def facts(found: set[int], redirected: bool, unhealthy: set[int]) -> Facts:
    """Some of the node's own workloads have been found, and some fail their health check."""
    return replace(
        FACTS,
        cgroups={
            (namespace, f"w{i}"): (base + i, 2)
            for base, namespace in ((1000, "shop"), (2000, "dev"))
            for i in sorted(found)
        },
        interfaces=Interfaces(
            {10 + i: HostEnd(i, (("shop", f"w{i}"),)) for i in sorted(found)}
            | {20: HostEnd(7, (("dev", "w2"), ("shop", "w2")))}
        ),
        redirected=frozenset({("shop", "s1", 80)} if redirected else ()),
        unhealthy={("shop", f"w{i}"): (8080,) for i in sorted(unhealthy)},
    )


class Follower:
    """A compiler that is told of snapshots, and the kernel that carries out its deltas."""

    def __init__(self) -> None:
        self.compiler = Compiler("n1")
        self.objects: dict[Key, Resource] = {}
        self.kernel: dict[str, Table] = {name: {} for name in self.compiler.tables}

    def tell(self, objects: dict[Key, Resource], known: Facts, mesh: MeshSettings) -> None:
        snapshot = Snapshot(self.compiler.state.revision + 1, objects, mesh)
        changes = difference(self.objects, snapshot)
        state = advance(self.compiler.state, snapshot, changes)
        for delta in self.compiler.update(state, changes, known):
            self._carry_out(delta)
        self.objects = objects

    def settle(self) -> None:
        while (delta := self.compiler.settle()) is not None:
            self._carry_out(delta)

    def _carry_out(self, delta) -> None:
        for name, table in delta.writes.items():
            self.kernel[name].update(table)
        for part in (delta.removals, delta.late):
            for name, keys in part.items():
                for key in keys:
                    del self.kernel[name][key]


def fresh(objects: dict[Key, Resource], known: Facts, mesh: MeshSettings) -> Follower:
    follower = Follower()
    follower.tell(objects, known, mesh)
    return follower


def steps(
    objects: st.SearchStrategy[Manifest], *, only_objects: bool = False
) -> st.SearchStrategy[list]:
    """``only_objects`` change: whatever else changes has everything computed again."""
    step = st.tuples(
        st.lists(objects, max_size=2 if only_objects else 3),  # put
        st.sets(st.integers(0, 30), max_size=1 if only_objects else 3),  # delete, by position
        st.just(set(range(1, 7))) if only_objects else st.sets(st.integers(1, 6)),
        st.just(False) if only_objects else st.booleans(),
        st.sets(st.integers(1, 6), max_size=3),
        st.just("hoplite-system") if only_objects else st.sampled_from(("hoplite-system", "shop")),
    )
    return st.lists(step, min_size=1, max_size=4)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(anything(), max_size=12), steps(anything()))
def test_change_by_change_or_all_at_once(first: list[Manifest], changes: list) -> None:
    follow(first, changes)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(balancing(), min_size=6, max_size=14), steps(balancing(), only_objects=True))
def test_load_balancing_change_by_change_or_all_at_once(
    first: list[Manifest], changes: list
) -> None:
    follow(first, changes)


def follow(first: list[Manifest], changes: list) -> None:
    """Tell one compiler of every step, and another one of the last alone."""
    follower = Follower()
    objects = keyed(first)
    follower.tell(objects, facts(set(range(1, 7)), False, set()), MeshSettings())
    for put, deleted, found, redirected, unhealthy, root in changes:
        keys = list(objects)
        gone = {keys[i] for i in deleted if i < len(keys)}
        objects = {k: o for k, o in objects.items() if k not in gone} | keyed(put)
        known, mesh = facts(found, redirected, unhealthy), MeshSettings(root_namespace=root)
        follower.tell(objects, known, mesh)
        assert follower.kernel == follower.compiler.tables
    follower.settle()
    assert follower.kernel == follower.compiler.tables
    alone = fresh(objects, known, mesh)
    assert follower.compiler.tables == alone.compiler.tables
    assert follower.compiler.settings == alone.compiler.settings
    assert follower.compiler.classes == alone.compiler.classes
    assert follower.compiler.state == build("n1", Snapshot(len(changes) + 1, objects, mesh))
