"""A node's own keys: made, known to all, used, accepted for a period more, forgotten."""

from __future__ import annotations

from meshapi.resources import IdentityKey
from nodeagent.keys.messages import OwnKey
from nodeagent.keys.ring import Seen, Step, published, seen, step

DAY = 86400.0
WALL = 1_800_000_000.0


def key(epoch: int, made: float = WALL) -> OwnKey:
    return OwnKey(epoch, f"public {epoch}", made)


def listed(*keys: OwnKey) -> tuple[IdentityKey, ...]:
    return tuple(published(k) for k in keys)


def at(
    held: tuple[OwnKey, ...],
    shown: tuple[OwnKey, ...],
    since: dict[int, float],
    now: float,
    wall: float | None = None,
) -> Step:
    """The step ``now`` seconds after everything began."""
    when = WALL + now if wall is None else wall
    view = Seen(since, shown[0].epoch if shown else 0, min(since.values(), default=now))
    return step(held, listed(*shown), view, seconds=DAY, now=now, wall=when)


def looked(
    before: Seen | None, held: tuple[OwnKey, ...], shown: tuple[IdentityKey, ...], now: float
) -> Seen:
    return seen(before, held, shown, now=now, wall=WALL)


def epochs(found: Step) -> list[int]:
    return [k.epoch for k in found.order]


def test_without_a_key_one_is_made_and_nothing_sent() -> None:
    assert at((), (), {}, 0) == Step(1, (), 0)


def test_a_first_key_is_published_at_once_and_used_when_others_have_heard_of_it() -> None:
    one = key(1)
    assert at((one,), (), {}, 0) == Step(0, (one,), 0)
    assert at((one,), (one,), {1: 10.0}, 14.9).sending == 0
    assert at((one,), (one,), {1: 10.0}, 15.0).sending == 1


def test_a_key_that_is_old_is_followed_by_another() -> None:
    one = key(1)
    assert at((one,), (one,), {1: 0.0}, DAY - 1).make == 0
    assert at((one,), (one,), {1: 0.0}, DAY).make == 2


def test_a_key_that_nobody_has_heard_of_is_not_followed_by_another() -> None:
    """The controller is away: it waits, and nothing changes."""
    one = key(1)
    assert at((one,), (), {}, 10 * DAY).make == 0
    two = key(2, WALL + DAY)
    waiting = at((one, two), (one,), {1: 0.0}, 10 * DAY)
    assert (waiting.make, epochs(waiting), waiting.sending) == (0, [1, 2], 1)


def test_the_next_key_is_known_for_half_a_period_before_it_is_used() -> None:
    one, two = key(1), key(2, WALL + DAY)
    since = {1: 0.0, 2: DAY}
    early = at((one, two), (one, two), since, 1.5 * DAY - 1)
    assert (epochs(early), early.sending, early.make) == ([1, 2], 1, 0)
    due = at((one, two), (one, two), since, 1.5 * DAY)
    assert (epochs(due), due.sending) == ([2, 1], 1), "used when its own MeshNode says so"
    done = at((one, two), (two, one), since, 1.5 * DAY + 1)
    assert (epochs(done), done.sending) == ([2, 1], 2)


def test_the_former_key_is_accepted_for_a_period_and_then_forgotten() -> None:
    one, two, three = key(1), key(2, WALL + DAY), key(3, WALL + 2 * DAY)
    since = {1: 0.0, 2: DAY, 3: 2 * DAY}
    assert epochs(at((one, two, three), (two, one), since, 2 * DAY)) == [2, 3, 1]
    assert epochs(at((one, two, three), (two, three, one), since, 2.5 * DAY)) == [3, 2]


def test_a_key_that_took_its_place_is_not_followed_before_the_controller_knows() -> None:
    """Otherwise the one that others still use would be forgotten."""
    one, two = key(1), key(2, WALL + DAY)
    away = at((one, two), (one, two), {1: 0.0, 2: DAY}, 5 * DAY)
    assert (epochs(away), away.make) == ([2, 1], 0)
    back = at((one, two), (two, one), {1: 0.0, 2: DAY}, 5 * DAY + 1)
    assert (epochs(back), back.make) == ([2, 1], 3)


def test_a_key_never_takes_the_place_of_one_that_has_not_been_in_use() -> None:
    """A restart on an old view of its own list may have made one too many."""
    one, two, three = key(1), key(2), key(3)
    since = {1: 0.0, 2: 0.0, 3: 0.0}
    assert epochs(at((one, two, three), (one, two, three), since, DAY)) == [2, 3, 1]
    assert epochs(at((one, two, three), (two, three, one), since, DAY)) == [3, 2]


def test_a_clock_that_was_set_back_or_forward_costs_a_key_and_no_connection() -> None:
    one = key(1)
    for wall in (WALL - 3600, WALL + 400 * DAY):
        found = at((one,), (one,), {1: 0.0}, 60, wall)
        assert (found.make, epochs(found), found.sending) == (2, [1], 1)
    two = key(2, WALL - 3600)
    found = at((one, two), (one, two), {1: 0.0, 2: 61.0}, 62, WALL + 400 * DAY)
    assert (found.make, epochs(found), found.sending) == (0, [1, 2], 1)


def test_a_node_that_lost_its_keys_begins_above_those_that_are_listed() -> None:
    old = listed(key(7), key(6))
    assert step((), old, Seen({}), seconds=DAY, now=0, wall=WALL) == Step(8, (), 0)
    fresh = key(8)
    found = step((fresh,), old, Seen({}), seconds=DAY, now=0, wall=WALL)
    assert (epochs(found), found.sending) == ([8], 0)


def test_a_key_of_somebody_else_in_ones_own_list_is_not_used() -> None:
    one = key(1)
    stranger = IdentityKey(epoch=1, public_key="not ours")
    assert looked(None, (one,), (stranger,), 5.0) == Seen({}, 0, 5.0)
    found = step((one,), (stranger,), Seen({}), seconds=DAY, now=60, wall=WALL)
    assert (epochs(found), found.sending) == ([1], 0)


def test_while_the_first_is_too_new_the_other_that_all_know_is_used() -> None:
    one, two = key(1), key(2)
    assert at((one, two), (two, one), {1: 0.0, 2: 97.0}, 99.0).sending == 1
    assert at((one, two), (two, one), {1: 0.0, 2: 90.0}, 99.0).sending == 2


def test_a_list_that_a_restored_controller_has_forgotten_stops_sending() -> None:
    """Others do not know the key any more; sending with it would have them refuse."""
    one, two = key(1), key(2)
    view = looked(Seen({1: 0.0, 2: 0.0}, 2), (one, two), listed(one), 99.0)
    assert view.listed == {1: 0.0}
    assert at((one, two), (one,), view.listed, 99.0).sending == 1
    view = looked(view, (one, two), (), 100.0)
    assert at((one, two), (), view.listed, 100.0).sending == 0


def test_when_a_process_starts_the_key_in_use_stays_so_and_the_next_waits_anew() -> None:
    one, two = key(1, WALL - DAY), key(2, WALL - 60)
    view = looked(None, (one, two), listed(one, two), 1000.0)
    assert view == Seen({1: 1000.0 - DAY, 2: 1000.0}, 1, 1000.0)
    assert looked(None, (one, two), listed(two), 1000.0).listed == {2: 940.0}
    assert looked(None, (one,), (), 1000.0).listed == {}
    back = seen(None, (one,), listed(one), now=1000.0, wall=WALL - 2 * DAY)
    assert back.listed == {1: 1000.0}, "the clock was set back"


def test_what_is_seen_remembers_since_when() -> None:
    one, two = key(1), key(2)
    view = looked(Seen({1: 5.0}, 1, 5.0), (one, two), listed(one, two), 9.0)
    assert view == Seen({1: 5.0, 2: 9.0}, 1, 5.0)
    assert looked(view, (one, two), listed(two, one), 10.0) == Seen({1: 5.0, 2: 9.0}, 2, 10.0)


def test_a_key_that_has_just_come_into_use_is_not_followed_by_another() -> None:
    """Its list may be an old one, of before a restart."""
    one = key(1, WALL - 2 * DAY)
    fresh = Seen({1: 0.0}, 1, 100.0)
    for now, make in ((104.0, 0), (105.0, 2)):
        assert step((one,), listed(one), fresh, seconds=DAY, now=now, wall=WALL).make == make
