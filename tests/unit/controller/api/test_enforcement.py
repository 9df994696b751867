from controller.api.enforcement import reckon
from controller.reports import Reports
from controller.status import look
from meshapi.resources import NodeProblem

SEEN = "2026-01-01T00:00:00Z"


def test_nodes_that_are_heard_of_are_waited_for_and_others_named(make):
    names = ("fast", "slow", "starting", "silent", "new")
    state = make.state(*(make.node(n) for n in names))
    reports = Reports()
    reports.put("fast", make.report(9), 100.0, SEEN)
    reports.put("slow", make.report(9), 100.0, SEEN)
    nack = NodeProblem(kind="HTTPRoute", namespace="shop", name="x", message="bad regex")
    reports.put("slow", make.report(7, "l7proxy", problems=(nack,)), 100.0, SEEN)
    reports.put("starting", make.report(6, ready=False), 100.0, SEEN)
    reports.put("silent", make.report(9), 10.0, SEEN)
    got = reckon(look(state, reports, 101.0), 8)
    assert (got.enforcing, got.present) == (1, 3)
    assert got.waiting == ("slow", "starting")
    assert got.problems == ("slow: HTTPRoute shop/x: bad regex",)
    assert got.absent == ("new", "silent")
    assert reckon(look(state, reports, 101.0), 6).waiting == ()
