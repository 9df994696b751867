from __future__ import annotations

import pytest

from meshapi.resources import LabelSelector, LabelSelectorRequirement
from nodeagent.policy.conditions import (
    EVERYBODY,
    NOBODY,
    AllOf,
    AnyOf,
    Atom,
    Condition,
    Guest,
    InBlock,
    InNamespace,
    Never,
    NodeAddresses,
    NodeProxy,
    NoneOf,
    Principal,
    ResolvedFrom,
    Selector,
    ServiceAccount,
    Workloads,
    atoms,
    selector,
)
from nodeagent.policy.members import ANYBODY, WORLD, Labels, Member, Trait, traits
from tests.unit.nodeagent.policy.asking import workload

WEB = workload("shop", "web", app="web")


def chosen(operator: str = "", *values: str, **labels: str) -> Selector:
    expressions = (
        (LabelSelectorRequirement(key="app", operator=operator, values=values),)  # type: ignore[arg-type]
        if operator
        else ()
    )
    return selector(LabelSelector(match_labels=labels, match_expressions=expressions))


@pytest.mark.parametrize(
    ("selector_", "web", "none"),
    [
        (chosen(), True, True),
        (chosen(app="web"), True, False),
        (chosen(app="web", tier="a"), False, False),
        (chosen("In", "web", "x"), True, False),
        (chosen("NotIn", "web"), False, True),
        (chosen("Exists"), True, False),
        (chosen("DoesNotExist"), False, True),
        (chosen("Exists", app="x"), False, False),
    ],
)
def test_selectors(selector_: Selector, *, web: bool, none: bool) -> None:
    labels: tuple[Labels, Labels] = (frozenset({("app", "web")}), frozenset())
    assert [selector_.selects(found) for found in labels] == [web, none]


def test_selectors_that_are_written_alike_are_one_key() -> None:
    assert len({chosen(app="web"), chosen(app="web"), chosen("Exists")}) == 2


def test_workloads_are_those_of_a_namespace_or_of_namespaces_that_a_selector_selects() -> None:
    named = chosen(**{"kubernetes.io/metadata.name": "shop"})
    for where in (Workloads(namespace="shop"), Workloads(namespaces=named)):
        assert where.matches(WEB)
        assert not where.matches(workload("dev"))
        assert not where.matches(WORLD)
    assert not Workloads(namespaces=chosen()).needs
    assert not Workloads(namespaces=chosen()).matches(WORLD)


def test_workloads_of_the_hosts_network_count_only_where_they_are_meant() -> None:
    host = Member(namespace="shop", host=True)
    assert Workloads(namespace="shop").matches(host)
    assert not Workloads(namespace="shop", host=False).matches(host)


@pytest.mark.parametrize(
    ("atom", "matching"),
    [
        (InBlock("10.0.0.0/8"), Member(blocks=frozenset({"10.0.0.0/8"}))),
        (ResolvedFrom("*.a.b"), Member(domains=frozenset({"*.a.b"}))),
        (NodeAddresses(chosen()), Member(node_labels=frozenset())),
        (NodeProxy(), Member(proxy=True)),
        (Guest("shop/q"), Member(guest_of=frozenset({"shop/q"}))),
        (InNamespace("sh*"), WEB),
        (ServiceAccount("shop", "web"), WEB),
        (Principal("*/sa/web", "hoplite.local"), WEB),
    ],
)
def test_an_atom_is_about_one_property(atom: Atom, matching: Member) -> None:
    assert atom.matches(matching)
    assert not atom.matches(WORLD)
    assert not atom.matches(workload("other", "other"))


def test_nobody_has_an_empty_namespace() -> None:
    assert not InNamespace("*").matches(WORLD)
    assert not Principal("*", "hoplite.local").matches(WORLD)
    assert not Never().matches(WEB)


@pytest.mark.parametrize(
    ("pattern", "needs"),
    [
        ("hoplite.local/ns/shop/sa/web", (("namespace", "shop"),)),
        ("hoplite.local/ns/shop/sa/*", (("namespace", "shop"),)),
        ("hoplite.local/ns/sh*", ()),
        ("*/ns/shop/sa/web", ()),
        ("*", ()),
    ],
)
def test_a_principal_needs_a_namespace_if_it_names_only_one(
    pattern: str, needs: tuple[Trait, ...]
) -> None:
    assert Principal(pattern, "hoplite.local").needs == needs


@pytest.mark.parametrize(
    "atom",
    [
        Workloads(namespace="shop"),
        Workloads(namespaces=chosen(**{"kubernetes.io/metadata.name": "shop"})),
        Workloads(pods=chosen(app="web")),
        Workloads(pods=chosen("Exists", app="web")),
        InBlock("10.0.0.0/8"),
        ResolvedFrom("*.a.b"),
        NodeAddresses(chosen()),
        NodeProxy(),
        Guest("shop/q"),
        InNamespace("shop"),
        ServiceAccount("shop", "web"),
        Principal("cluster.local/ns/shop/sa/web", "hoplite.local"),
    ],
)
def test_whoever_matches_has_what_an_atom_needs(atom: Atom) -> None:
    everything = Member(
        **{f: getattr(WEB, f) for f in ("namespace", "namespace_labels", "labels")},
        service_account="web",
        blocks=frozenset({"10.0.0.0/8"}),
        domains=frozenset({"*.a.b"}),
        node_labels=frozenset(),
        proxy=True,
        guest_of=frozenset({"shop/q"}),
    )
    assert atom.needs
    assert atom.matches(everything)
    assert set(atom.needs) <= traits(everything)
    for other in (WORLD, ANYBODY, workload("dev", "web"), workload("other", tier="a")):
        assert not atom.matches(other)
        assert not set(atom.needs) <= traits(other)


@pytest.mark.parametrize(
    ("condition", "web", "world"),
    [
        (EVERYBODY, True, True),
        (NOBODY, False, False),
        (AnyOf((InNamespace("shop"), InBlock("x"))), True, False),
        (AllOf((InNamespace("shop"), InBlock("x"))), False, False),
        (NoneOf((InNamespace("shop"), InBlock("x"))), False, True),
        (NoneOf(()), True, True),
    ],
)
def test_combinations(condition: Condition, *, web: bool, world: bool) -> None:
    assert [condition.matches(m) for m in (WEB, WORLD)] == [web, world]


def test_atoms_are_found_at_any_depth() -> None:
    some = (InBlock("a"), InBlock("b"), InBlock("c"))
    condition = AllOf((some[0], NoneOf((AnyOf((some[1],)), some[2]))))
    assert set(atoms(condition)) == set(some)


def test_of_many_parts_those_are_found_that_are_true() -> None:
    many = [Workloads(pods=chosen(app=f"a{n}")) for n in range(20)]
    wide = AnyOf((*many, Workloads(pods=chosen(app="web")), AllOf((InBlock("10.0.0.0/8"),))))
    assert wide.matches(WEB)
    assert wide.matches(workload("dev", app="a19"))
    assert wide.matches(Member(blocks=frozenset({"10.0.0.0/8"})))
    for other in (WORLD, ANYBODY, workload("shop", "web"), workload("shop", app="a20")):
        assert not wide.matches(other)
    nearly_all = AnyOf((*many, InNamespace("*")))
    assert nearly_all.matches(workload("dev"))
    assert not nearly_all.matches(WORLD)
