from controller.reports import Reports, visible
from meshapi.nodecontract import NODE_STALE_AFTER
from meshapi.resources import NodeProblem

SEEN = "2026-01-01T00:00:00Z"


def test_a_node_that_never_reported_is_not_ready():
    status = Reports().status("n1", 0.0)
    assert not status.ready
    assert status.conditions[0].reason == "NotReported"


def test_the_slowest_component_counts(make):
    reports = Reports()
    reports.put("n1", make.report(7, kernel_version="6.18", features={"tcx": "yes"}), 100.0, SEEN)
    reports.put("n1", make.report(5, "l7proxy", state="idle"), 100.0, SEEN)
    status = reports.status("n1", 101.0)
    assert status.ready
    assert status.applied_revision == 5
    assert (status.kernel_version, status.features) == ("6.18", {"tcx": "yes"})
    assert status.agent is not None and status.agent.last_seen == SEEN
    assert status.l7proxy is not None and status.l7proxy.state == "idle"


def test_an_l7proxy_alone_does_not_make_a_node_ready(make):
    reports = Reports()
    reports.put("n1", make.report(5, "l7proxy"), 100.0, SEEN)
    assert not reports.status("n1", 101.0).ready


def test_a_component_that_falls_silent_or_says_so_makes_the_node_not_ready(make):
    reports = Reports()
    reports.put("n1", make.report(7), 100.0, SEEN)
    assert reports.status("n1", 100.0 + NODE_STALE_AFTER).ready
    late = reports.status("n1", 101.0 + NODE_STALE_AFTER)
    assert not late.ready
    assert late.agent is not None and not late.agent.ready
    assert "last heard of 31 s ago" in late.conditions[0].message
    reports.put("n1", make.report(7, ready=False, state="loading"), 200.0, SEEN)
    assert reports.status("n1", 200.0).conditions[0].message == "agent is not ready: loading"


def test_only_news_is_news(make):
    reports = Reports()
    assert reports.put("n1", make.report(7), 100.0, SEEN)
    assert not reports.put("n1", make.report(7), 110.0, SEEN)
    assert reports.put("n1", make.report(8), 120.0, SEEN)
    assert reports.put("n1", make.report(8), 121.0 + NODE_STALE_AFTER, SEEN)
    problem = NodeProblem(kind="HTTPRoute", name="x", message="no")
    assert reports.put("n1", make.report(8, problems=(problem,)), 155.0, SEEN)
    before, after = reports.status("n1", 156.0), reports.status("n1", 157.0)
    assert visible(before) == visible(after)


def test_a_heartbeat_alone_is_no_news(make):
    reports = Reports()
    reports.put("n1", make.report(7), 100.0, SEEN)
    before = reports.status("n1", 101.0)
    reports.put("n1", make.report(7), 110.0, "2026-01-01T00:00:10Z")
    after = reports.status("n1", 111.0)
    assert before != after
    assert visible(before) == visible(after)


def test_a_node_that_left_is_forgotten(make):
    reports = Reports()
    reports.put("n1", make.report(7), 100.0, SEEN)
    reports.forget("n1")
    assert reports.status("n1", 100.0).agent is None
