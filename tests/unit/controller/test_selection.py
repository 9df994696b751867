"""Whom a policy selects, over all namespaces."""

import pytest

from controller.selection import selects_some
from controller.state import State


@pytest.fixture
def mesh(make):
    return make.state(
        make.namespace("shop", team="blue"),
        make.namespace("ops", team="red"),
        make.namespace("empty", team="green"),
        make.namespace("hoplite-system"),
        make.workload("web-1", address="10.0.0.1"),
        make.workload("probe-1", namespace="ops"),
        make.workload("probe-2", address="10.0.0.2", namespace="ops", labels={"app": "pod"}),
    )


def team(name):
    return {"matchLabels": {"team": name}}


def app(name):
    return {"matchLabels": {"app": name}}


def pods(of_pods, of_namespaces=None):
    return {"pods": {"podSelector": of_pods, "namespaceSelector": of_namespaces or {}}}


@pytest.mark.parametrize(
    ("subject", "selects"),
    [
        ({"namespaces": {}}, True),
        ({"namespaces": team("blue")}, True),
        ({"namespaces": team("green")}, False),
        ({"namespaces": team("nobody")}, False),
        ({"namespaces": {"matchLabels": {"kubernetes.io/metadata.name": "ops"}}}, True),
        (pods({}), True),
        (pods(app("web")), True),
        (pods(app("web"), team("red")), False),
        (pods({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, team("blue")), True),
        (pods({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}), False),
    ],
)
def test_a_subject_selects_by_namespace_and_labels(make, mesh, subject, selects):
    assert selects_some(mesh, make.cluster_policy("p", subject)) == selects


def test_a_subject_never_selects_workloads_in_their_hosts_network(make, mesh):
    assert not selects_some(mesh, make.cluster_policy("p", pods(app("probe"))))
    host_only = make.state(make.workload("web-1"))
    assert not selects_some(host_only, make.cluster_policy("p", {"namespaces": {}}))
    assert selects_some(host_only, make.policy("p", app="web"))
    assert selects_some(host_only, make.authorization("p", app="web"))


def test_an_authorization_policy_selects_in_its_own_namespace(make, mesh):
    assert selects_some(mesh, make.authorization("p", app="web"))
    assert selects_some(mesh, make.authorization("p"))
    assert not selects_some(mesh, make.authorization("p", "ops", app="web"))
    assert not selects_some(mesh, make.authorization("p", "empty"))


def test_one_of_the_root_namespace_selects_everywhere(make, mesh):
    assert selects_some(mesh, make.authorization("p", "hoplite-system", app="web"))
    assert selects_some(mesh, make.authorization("p", "hoplite-system"))
    assert not selects_some(mesh, make.authorization("p", "hoplite-system", app="nobody"))
    assert not selects_some(State(), make.authorization("p", "hoplite-system"))


def test_which_namespace_is_the_root_is_a_setting(make, mesh):
    moved = State(kinds=mesh.kinds, workloads=mesh.workloads, root_namespace="empty")
    assert selects_some(moved, make.authorization("p", "empty", app="web"))
    assert not selects_some(moved, make.authorization("p", "hoplite-system", app="web"))
    assert moved.with_changes({}).root_namespace == "empty"
