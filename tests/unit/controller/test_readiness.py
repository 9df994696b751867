"""What of a node's word on its workloads is stored, and how often."""

import pytest
from msgspec.structs import replace

from controller import readiness
from controller.pace import Pace
from controller.readiness import HEALTH_BURST, HEALTH_EVERY
from meshapi.resources import Key
from meshapi.wire import WorkloadReport


def report(name="web-1", *ports, ready=True, message=""):
    return WorkloadReport(
        namespace="shop", name=name, ready=ready, message=message, unhealthy_ports=ports
    )


@pytest.fixture
def mesh(make):
    return make.state(make.workload("web-1", "n1"), make.workload("web-2", "n2"))


@pytest.fixture
def pace():
    return Pace(HEALTH_EVERY, HEALTH_BURST)


def after(state, node, *reports):
    """The stored statuses that change, by workload."""
    return {w.key.name: w.new.status for w in readiness.changes(state, node, reports)}


def test_a_nodes_word_is_stored(mesh):
    status = after(mesh, "n1", report("web-1", 8081, 8080, 8081, message="up"))["web-1"]
    assert (status.ready, status.message, status.unhealthy_ports) == (True, "up", (8080, 8081))
    assert status.identity == mesh.workload("shop", "web-1").status.identity


def test_what_says_nothing_new_is_not_written(mesh):
    written = list(readiness.changes(mesh, "n1", [report()]))
    newer = mesh.with_changes({w.key: w.new for w in written})
    assert len(written) == 1
    assert after(newer, "n1", report()) == {}


def test_a_node_speaks_of_its_own_workloads_only(mesh, pace):
    reports = [report("web-2", 80), report("nix", 80)]
    assert after(mesh, "n1", *reports) == {}
    assert readiness.steadied(mesh, "n1", reports, pace, 0.0) == ()
    assert len(pace) == 0, "nor does it use up what another node may change"


def test_health_that_flaps_is_held_back_and_comes_later(mesh, pace):
    state, key, stored = mesh, Key("Workload", "shop", "web-1"), []
    for second in range(60):
        flapping = [report("web-1", *([80] if second % 2 else []))]
        steady = readiness.steadied(state, "n1", flapping, pace, float(second))
        before = state.get(key).status.unhealthy_ports
        for write in readiness.changes(state, "n1", steady):
            state = state.with_changes({write.key: write.new})
        if state.get(key).status.unhealthy_ports != before:
            stored.append(second)
    assert stored[:HEALTH_BURST] == [1, 2, 3, 4]
    assert len(stored) <= HEALTH_BURST + 60 / HEALTH_EVERY
    last = readiness.steadied(state, "n1", [report("web-1", 80)], pace, 100.0)
    assert last[0].unhealthy_ports == (80,)


def test_readiness_is_never_held_back(mesh, pace):
    while pace.allows(Key("Workload", "shop", "web-1"), 50.0):
        pass
    steady = readiness.steadied(mesh, "n1", [report("web-1", 80, ready=True)], pace, 50.0)
    assert steady == (replace(report(ready=True), unhealthy_ports=()),)
    assert after(mesh, "n1", *steady)["web-1"].ready


def test_a_workload_that_moves_is_healthy_until_its_new_node_says_otherwise(make, mesh):
    (write,) = readiness.changes(mesh, "n1", [report("web-1", 80)])
    state = mesh.with_changes({write.key: write.new})
    stays = make.plan(state, make.workload("web-1", labels={"x": "y"})).admitted[0]
    assert stays.status.unhealthy_ports == (80,)
    moved = make.plan(state, make.workload("web-1", node="n2")).admitted[0]
    assert moved.status.unhealthy_ports == ()
