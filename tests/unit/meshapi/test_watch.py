import pytest

from meshapi.errors import HopliteError
from meshapi.resources import Key
from meshapi.watch import FeedReducer, Snapshot

PUT = (
    b'{"type":"PUT","object":{"apiVersion":"v1","kind":"Namespace",'
    b'"metadata":{"name":"%b","resourceVersion":"7"}}}'
)
A, B = Key("Namespace", "", "a"), Key("Namespace", "", "b")


def feed(reducer, *lines):
    return [reducer.feed(line) for line in lines]


def test_a_snapshot_comes_with_a_revision_only():
    reducer = FeedReducer()
    seen = feed(
        reducer,
        b'{"type":"RESET"}',
        PUT % b"a",
        b'{"type":"PING"}',
        PUT % b"b",
        b'{"type":"REVISION","revision":5}',
        b'{"type":"DELETE","kind":"Namespace","name":"a"}',
        b'{"type":"DELETE","kind":"Namespace","name":"never"}',
        b'{"type":"REVISION","revision":6}',
    )
    assert [bool(s) for s in seen] == [False] * 4 + [True] + [False] * 2 + [True]
    assert (seen[4].revision, set(seen[4].objects)) == (5, {A, B})
    assert (seen[7].revision, set(seen[7].objects)) == (6, {B})
    assert set(seen[4].objects) == {A, B}, "a snapshot does not move under its reader"


def test_a_reset_forgets_everything():
    reducer = FeedReducer()
    feed(reducer, PUT % b"a", b'{"type":"RESET"}', PUT % b"b")
    assert set(reducer.feed(b'{"type":"REVISION","revision":1}').objects) == {B}


def test_a_reset_says_what_holds_for_the_whole_mesh():
    reducer = FeedReducer()
    feed(reducer, b'{"type":"RESET","mesh":{"trustDomain":"td","domain":"d","rootNamespace":"r"}}')
    mesh = reducer.feed(b'{"type":"REVISION","revision":1}').mesh
    assert (mesh.trust_domain, mesh.domain, mesh.root_namespace) == ("td", "d", "r")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"x",
        b"[]",
        b'{"type":"JUMP"}',
        b'{"type":"PUT"}',
        b'{"type":"PUT","object":{}}',
        PUT % b"A",
    ],
)
def test_a_line_that_cannot_be_read_is_refused(line):
    with pytest.raises(HopliteError):
        FeedReducer().feed(line)


def test_a_snapshot_tells_what_changed_since_the_one_before():
    reducer = FeedReducer()
    seen = feed(
        reducer,
        b'{"type":"RESET"}',
        PUT % b"a",
        b'{"type":"REVISION","revision":1}',
        PUT % b"b",
        b'{"type":"DELETE","kind":"Namespace","name":"a"}',
        b'{"type":"REVISION","revision":2}',
        b'{"type":"REVISION","revision":3}',
    )
    assert [s.changed for s in seen if s] == [None, {A, B}, set()]


def test_after_a_reset_everything_may_have_changed():
    reducer = FeedReducer()
    feed(reducer, b'{"type":"REVISION","revision":1}', PUT % b"a", b'{"type":"RESET"}')
    feed(reducer, PUT % b"b")
    assert reducer.feed(b'{"type":"REVISION","revision":2}').changed is None
    assert reducer.feed(b'{"type":"REVISION","revision":3}').changed == set()


@pytest.mark.parametrize(
    ("older", "newer", "both"),
    [
        ({A}, {B}, {A, B}),
        ({A}, set(), {A}),
        (None, {B}, None),
        ({A}, None, None),
    ],
)
def test_who_missed_a_snapshot_gets_the_changes_of_both(older, newer, both):
    def snapshot(revision, changed):
        return Snapshot(revision, {}, changed=None if changed is None else frozenset(changed))

    merged = snapshot(2, newer).after(snapshot(1, older))
    assert (merged.revision, merged.changed) == (2, both)
