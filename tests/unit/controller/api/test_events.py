import msgspec
import pytest

from controller.api.events import SWEEP_INTERVAL, Follower, bookmark
from controller.api.select import selection
from controller.reports import Reports
from controller.status import look
from controller.store.base import LogEntry
from meshapi import codec
from meshapi.resources import Key, by_word

SEEN = "2026-01-01T00:00:00Z"


def seen(lines):
    events = [msgspec.json.decode(line) for line in lines]
    return [(e["type"], e["object"]["metadata"]["name"]) for e in events]


def entry(action, value, previous=None, revision=9):
    key = Key(value.kind, value.metadata.namespace, value.metadata.name)
    encoded = codec.encode_json(previous) if previous else None
    return LogEntry(revision, key, action, codec.encode_json(value), encoded)


@pytest.fixture
def view(make):
    state = make.state(make.service("a"), make.workload("a-1", "n1", "10.0.0.1"), make.node("n1"))
    return look(state, Reports(), 0.0)


def test_a_watch_of_everything_sees_every_change(make, view):
    follower = Follower(by_word("services"), selection("", "", ""))
    assert seen(follower.start(view)) == [("ADDED", "a")]
    a = make.service("a")
    assert seen(follower.entry(view, entry("ADDED", make.service("b")))) == [("ADDED", "b")]
    assert seen(follower.entry(view, entry("MODIFIED", a, a))) == [("MODIFIED", "a")]
    assert seen(follower.entry(view, entry("DELETED", a, a))) == [("DELETED", "a")]


def test_entering_and_leaving_a_selection_are_addition_and_deletion(make, view):
    follower = Follower(by_word("workloads"), selection("shop", "x=y", ""))
    plain, chosen = make.workload("a-1"), make.workload("a-1", labels={"x": "y"})
    assert seen(follower.start(view)) == []
    assert seen(follower.entry(view, entry("ADDED", plain))) == []
    assert seen(follower.entry(view, entry("MODIFIED", chosen, plain))) == [("ADDED", "a-1")]
    assert seen(follower.entry(view, entry("MODIFIED", chosen, chosen))) == [("MODIFIED", "a-1")]
    assert seen(follower.entry(view, entry("MODIFIED", plain, chosen))) == [("DELETED", "a-1")]
    assert seen(follower.entry(view, entry("DELETED", plain, plain))) == []


def test_events_carry_the_revision_of_their_change(make, view):
    follower = Follower(by_word("services"), selection("", "", ""))
    line = next(iter(follower.entry(view, entry("ADDED", make.service("b"), revision=77))))
    assert b'"resourceVersion":"77"' in line
    assert b'"resourceVersion":"5"' in bookmark(by_word("services"), 5)


def test_computed_status_that_moves_is_an_event(make, view):
    reports = Reports()
    follower = Follower(by_word("nodes"), selection("", "", ""))
    assert seen(follower.start(view)) == [("ADDED", "n1")]
    assert seen(follower.moved(view, 10.0)) == []
    reports.put("n1", make.report(1), 5.0, SEEN)
    later = look(view.state, reports, 6.0)
    assert seen(follower.moved(later, 10.1)) == []
    assert seen(follower.moved(later, 10.0 + SWEEP_INTERVAL)) == [("MODIFIED", "n1")]
    reports.put("n1", make.report(1), 7.0, SEEN)
    heartbeat = look(view.state, reports, 8.0)
    assert seen(follower.moved(heartbeat, 20.0)) == []
    assert seen(follower.moved(look(view.state, reports, 99.0), 30.0)) == [("MODIFIED", "n1")]


def test_a_kind_without_computed_status_has_no_such_events(make, view):
    follower = Follower(by_word("workloads"), selection("", "", ""))
    list(follower.start(view))
    assert seen(follower.moved(view, 10.0)) == []
