"""What may be said once only, and who is named when it is said again."""

import pytest

from controller.admission import AdmissionError
from meshapi.resources import Key


def refusals(make, state, *wanted):
    with pytest.raises(AdmissionError) as caught:
        make.plan(state, *wanted)
    return [(r.index, r.problem.path, r.problem.what) for r in caught.value.refusals]


def test_a_service_has_one_traffic_policy(make):
    state = make.state(make.traffic("first", "web", "api"))
    assert refusals(make, state, make.traffic("second", "other", "api")) == [
        (0, "$.spec.targetRefs[1]", "Service shop/api has TrafficPolicy shop/first already")
    ]


def test_a_workload_has_one_quarantine(make):
    state = make.state(make.quarantine("first", "web-1"))
    assert refusals(make, state, make.quarantine("second", "web-1")) == [
        (0, "$.spec.workload", "Workload shop/web-1 has Quarantine shop/first already")
    ]


def test_of_two_that_come_together_the_later_is_refused(make):
    both = make.traffic("b", "web"), make.traffic("a", "web")
    assert refusals(make, make.state(), *both) == [
        (1, "$.spec.targetRefs[0]", "Service shop/web has TrafficPolicy shop/b already")
    ]


def test_one_may_change_what_it_speaks_about(make):
    state = make.state(make.traffic("a", "web"), make.traffic("b", "api"))
    swapped = make.plan(state, make.traffic("a", "api"), make.traffic("b", "web"))
    assert len(swapped.writes) == 2
    same = make.plan(state, make.traffic("a", "web", "more"))
    assert [w.key for w in same.writes] == [Key("TrafficPolicy", "shop", "a")]


def test_other_namespaces_have_names_of_their_own(make):
    state = make.state(make.namespace("ops"), make.traffic("a", "web"))
    assert make.plan(state, make.traffic("a", "web", namespace="ops")).writes


def test_one_that_is_deleted_makes_room(make):
    state = make.state(make.quarantine("first", "web-1"))
    state = make.deleted(state, make.quarantine("first", "web-1"))
    assert make.plan(state, make.quarantine("second", "web-1")).writes
