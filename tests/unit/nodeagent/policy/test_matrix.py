from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from meshapi.codec import decode
from meshapi.verdict import Verdict
from meshapi.wire import MeshSettings
from nodeagent.policy.decisions import PROTOCOLS, Answer, at
from nodeagent.policy.matrix import Matrix, Pair
from nodeagent.policy.members import WORLD, Member, PolicyClass, Shared
from nodeagent.policy.policyset import PolicySet, policy_set
from tests.unit.nodeagent.desired import worlds
from tests.unit.nodeagent.desired.against import tries
from tests.unit.nodeagent.policy.asking import policies, workload

HERE, PEER, OTHER, OUTSIDE = 1, 2, 3, 4
WEB, CACHE = workload("shop", app="web"), workload("shop", app="cache")

CLOSED = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: cache, namespace: shop}
spec:
  podSelector: {matchLabels: {app: cache}}
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 80}]}]
"""


def holding(text: str = CLOSED) -> Matrix:
    """The cache is here, the others elsewhere."""
    matrix = Matrix()
    matrix.set_policies(policies(text).chains, None)
    matrix.add(HERE, CACHE, source=True, destination=True)
    for number, member in ((PEER, WEB), (OTHER, workload("dev")), (OUTSIDE, WORLD)):
        matrix.add(number, member, source=False, destination=False)
    return matrix


def verdict(answer: Answer | None, port: int) -> Verdict | None:
    return at(answer, "TCP", port).verdict if answer else None


def test_only_pairs_that_a_rule_singles_out_have_an_entry() -> None:
    changes = holding().changes()
    assert {pair for pair, answer in changes.items() if answer} == {(PEER, HERE), (None, HERE)}
    assert verdict(changes[PEER, HERE], 80) is Verdict.ALLOW
    assert verdict(changes[PEER, HERE], 81) is Verdict.DENY
    assert verdict(changes[None, HERE], 80) is Verdict.DENY


def test_what_has_been_told_is_not_told_again() -> None:
    matrix = holding()
    matrix.changes()
    assert matrix.changes() == {}


def test_classes_are_closed_by_policies() -> None:
    matrix = holding()
    matrix.changes()
    assert matrix.closed(HERE, "ingress")
    assert not matrix.closed(HERE, "egress")
    assert not matrix.closed(PEER, "ingress")
    assert matrix.set_policies(PolicySet().chains, None) == {HERE}
    assert not matrix.closed(HERE, "ingress")
    assert set(matrix.changes().values()) == {None}


def test_who_is_not_affected_is_not_looked_at_again() -> None:
    matrix = holding()
    assert (
        matrix.set_policies(PolicySet().chains, [((), lambda member: member is not CACHE)]) == set()
    )
    assert matrix.closed(HERE, "ingress")


def test_a_class_that_is_gone_takes_its_entries_with_it() -> None:
    matrix = holding()
    matrix.changes()
    matrix.remove(PEER)
    assert matrix.changes() == {(PEER, HERE): None}
    matrix.remove(HERE)
    assert matrix.changes() == {(None, HERE): None}


def test_pairs_of_which_neither_end_is_here_are_not_followed() -> None:
    matrix = holding()
    matrix.restrict(HERE, source=False, destination=False)
    assert {pair for pair, answer in matrix.changes().items() if answer} == {(None, HERE)}
    matrix.add(PEER, WEB, source=True, destination=False)
    assert (PEER, HERE) in matrix.changes()


def test_of_a_shared_end_every_member_is_asked_on_its_own_port() -> None:
    matrix = holding()
    for number, reached, expected in ((5, 80, Verdict.ALLOW), (6, 81, Verdict.DENY)):
        behind = Shared(frozenset({(CACHE, reached), (workload("dev"), 9)}))
        matrix.add(number, behind, source=False, destination=False)
        assert verdict(matrix.answer(PEER, number), 4711) is expected


def test_one_closed_member_closes_a_shared_end() -> None:
    matrix = holding()
    both = Shared(frozenset({(CACHE, None), (workload("dev"), None)}))
    matrix.add(5, both, source=False, destination=False)
    assert matrix.closed(5, "ingress")


# -- change by change, or all at once --------------------------------------------------------------

_members = [
    replace(workload(namespace, app=app), ports=frozenset({("http", "TCP", port)}))
    for namespace, app, port in (("shop", "a", 80), ("shop", "b", 8080), ("dev", "a", 8080))
]
_classes: list[PolicyClass] = [
    *_members,
    WORLD,
    Member(blocks=frozenset({"0.0.0.0/0"})),
    Member(node_labels=frozenset({("app", "a")})),
    Shared(frozenset({(_members[0], None), (_members[2], None)})),
    Shared(frozenset({(_members[0], 8080), (_members[1], 80)})),
]
_uses = st.tuples(st.booleans(), st.booleans())
_held = st.lists(worlds.policies(), max_size=3).map(
    lambda found: policy_set(map(decode, found), (), MeshSettings())  # type: ignore[arg-type]
)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("use"), st.integers(0, len(_classes) - 1), _uses),
        st.tuples(st.just("remove"), st.integers(0, len(_classes) - 1)),
        st.tuples(st.just("policies"), _held),
    ),
    min_size=1,
    max_size=12,
)


class Followed:
    """A matrix that is told of steps, and the entries that its changes come to."""

    def __init__(self) -> None:
        self.matrix = Matrix()
        self.entries: dict[Pair, Answer] = {}
        self.uses: dict[int, tuple[bool, bool]] = {}
        self.held = PolicySet()

    def use(self, index: int, use: tuple[bool, bool]) -> None:
        if isinstance(_classes[index], Shared):
            use = (False, False)  # a node's own workloads are told apart
        source, destination = use
        if index in self.uses:
            self.matrix.restrict(index, source=source, destination=destination)
        else:
            self.matrix.add(index, _classes[index], source=source, destination=destination)
        self.uses[index] = use

    def remove(self, index: int) -> None:
        if self.uses.pop(index, None):
            self.matrix.remove(index)

    def policies(self, held: PolicySet) -> None:
        self.held = held
        self.matrix.set_policies(held.chains, None)

    def take(self) -> None:
        for pair, answer in self.matrix.changes().items():
            if answer is None:
                del self.entries[pair]
            else:
                self.entries[pair] = answer


@tries(150)
@given(_steps)
def test_change_by_change_or_all_at_once(steps: list[Any]) -> None:
    followed, alone = Followed(), Followed()
    for what, *arguments in steps:
        getattr(followed, what)(*arguments)
        followed.take()
    alone.policies(followed.held)
    for index, use in followed.uses.items():
        alone.use(index, use)
    alone.take()
    assert followed.entries == alone.entries
    for source, (here, _) in followed.uses.items():
        for destination, (_, there) in followed.uses.items():
            if here or there:
                verdicts_agree(followed.entries, followed.matrix, source, destination)


def verdicts_agree(
    entries: dict[Pair, Answer], matrix: Matrix, source: int, destination: int
) -> None:
    """Pairs without an entry are refused by one of their ends' defaults, or by neither."""
    whole = matrix.answer(source, destination)
    if (source, destination) in entries:
        assert entries[source, destination] == whole
        return
    defaults = []
    if matrix.closed(source, "egress"):
        defaults.append(entries[source, None])
    if matrix.closed(destination, "ingress"):
        defaults.append(entries[None, destination])
    for protocol in PROTOCOLS:
        for port in (79, 80, 8079, 8080, 8081):
            refused = any(not at(d, protocol, port).allows for d in defaults)
            assert at(whole, protocol, port).allows == (not refused)
