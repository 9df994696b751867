from __future__ import annotations

from nodeagent.desired.plan import MAPS, Delta, difference, ordered_removals, ordered_writes
from nodeagent.layout import CLASS_ANY, POLICY_KEY

PAIR, DEFAULT = POLICY_KEY.pack(1, 2), POLICY_KEY.pack(CLASS_ANY, 2)


def tables(**some: dict[bytes, bytes]) -> dict[str, dict[bytes, bytes]]:
    return {name: some.get(name, {}) for name in MAPS}


def test_a_difference_is_what_is_missing_wrong_or_too_much() -> None:
    actual = tables(peers={b"a": b"1", b"b": b"1", b"c": b"1"}, slots={b"s": b"1"})
    wanted = tables(peers={b"a": b"1", b"b": b"2", b"d": b"1"})
    delta = difference(actual, wanted)
    assert delta.writes["peers"] == {b"b": b"2", b"d": b"1"}
    assert delta.removals["peers"] == {b"c"}
    assert delta.removals["slots"] == {b"s"}
    assert (delta.written, delta.removed) == (2, 2)


def test_the_last_word_on_a_key_counts() -> None:
    delta = Delta()
    delta.drop("peers", b"a", late=False)
    delta.put("peers", b"a", b"1")
    delta.put("peers", b"b", b"1")
    delta.drop("peers", b"b", late=False)
    assert (delta.writes["peers"], delta.removals["peers"]) == ({b"a": b"1"}, {b"b"})


def test_referents_are_written_first_and_removed_last() -> None:
    before = [
        ("port_rules", "policy"),
        ("policy", "services"),
        ("policy", "blocks"),
        ("policy", "listeners"),
        ("policy", "peers"),
        ("policy", "workloads"),
        ("backends", "slots"),
        ("slots", "services"),
        ("services", "peers"),
    ]
    written = [name for name, _ in ordered_writes(Delta())]
    removed = [name for name, _ in ordered_removals(tables())]  # type: ignore[arg-type]
    for referent, reference in before:
        assert written.index(referent) < written.index(reference)
        assert removed.index(referent) > removed.index(reference)


def test_a_pairs_own_entry_is_written_before_its_ends_defaults() -> None:
    delta = Delta()
    delta.put("policy", DEFAULT, b"1")
    delta.put("policy", PAIR, b"1")
    assert [key for key, _ in dict(ordered_writes(delta))["policy"]] == [PAIR, DEFAULT]
