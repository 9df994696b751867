"""This node's own keys, one after the other: when the next is made, known to all, and used. Pure.

A key is made at ``made`` and published behind the one in use. When it has been published for
``distribution`` seconds it takes its place, and the former one is still accepted until the next
change: for one period, ``seconds``. What is in use, for others and for this node itself, is what
its own MeshNode lists first: so a node that does not reach the controller changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshapi.resources import IdentityKey
from nodeagent.keys.messages import OwnKey

_MOST_KEYS = 3  # the one in use, the one before and the one to come
_FIRST_SECONDS = 5.0  # how long a node's very first key is published before it is used


@dataclass(frozen=True)
class Step:
    """What is to be done: make a key of epoch ``make`` (0: none), publish ``order``, send with the
    key ``sending`` (0: with none yet), forget all that are not in ``order``.
    """

    make: int
    order: tuple[OwnKey, ...]
    sending: int


@dataclass(frozen=True)
class Seen:
    """Since when each of our keys has been listed, and one of them has been the first."""

    listed: dict[int, float]
    in_use: int = 0
    in_use_since: float = 0.0


def published(key: OwnKey) -> IdentityKey:
    """A key as the MeshNode lists it."""
    return IdentityKey(epoch=key.epoch, public_key=key.public)


def distribution(seconds: float) -> float:
    """How long a key is known to all before it is used."""
    return seconds / 2


def seen(
    before: Seen | None,
    held: tuple[OwnKey, ...],
    listed: tuple[IdentityKey, ...],
    *,
    now: float,
    wall: float,
) -> Seen:
    """What is seen now, with what was seen before; None at the start of a process.

    Then the key in use has been listed since it was made; how long the next one has been known to
    all is not known, so its time begins anew.
    """
    known = {(key.epoch, key.public_key) for key in listed}
    in_use = _in_use(list(held), listed[:1])
    if before is None:
        since = {in_use.epoch: now - max(0.0, wall - in_use.made)} if in_use else {}
        before = Seen(since)
    return Seen(
        {k.epoch: before.listed.get(k.epoch, now) for k in held if (k.epoch, k.public) in known},
        in_use.epoch if in_use else 0,
        before.in_use_since if in_use and before.in_use == in_use.epoch else now,
    )


def step(
    held: tuple[OwnKey, ...],
    listed: tuple[IdentityKey, ...],
    view: Seen,
    *,
    seconds: float,
    now: float,
    wall: float,
) -> Step:
    """What follows from the keys that are held, those that this node's MeshNode lists, and since
    when (``now``'s clock); ``wall`` is the time of day.
    """
    if not held:
        return Step(_next_epoch(held, listed), (), 0)
    by_age = sorted(held, key=lambda key: key.epoch)
    newest = by_age[-1]
    active = _in_use(by_age, listed) or newest
    following = next((key for key in by_age if key.epoch > active.epoch), None)
    if following and _settled(following, view, distribution(seconds), now):
        active = following  # one after the other: others still use the one before
    before = [key for key in by_age if key.epoch < active.epoch][-1:]
    later = [key for key in by_age if key.epoch > active.epoch]
    patience = min(_FIRST_SECONDS, distribution(seconds))
    first = _in_use(by_age, listed[:1])
    usable = [key for key in reversed(by_age) if first and key.epoch <= first.epoch]
    settled = [key.epoch for key in usable if _settled(key, view, patience, now)]
    return Step(
        make=_next_epoch(held, listed)
        if newest is first
        and now - view.in_use_since >= patience
        and not 0 <= wall - newest.made < seconds  # also when the clock was set back
        else 0,
        order=(active, *later, *before)[:_MOST_KEYS],
        sending=settled[0] if settled else 0,
    )


def _in_use(held: list[OwnKey], listed: tuple[IdentityKey, ...]) -> OwnKey | None:
    """The first listed key that is one of ours."""
    for key in listed:
        for own in held:
            if published(own) == key:
                return own
    return None


def _settled(key: OwnKey, view: Seen, patience: float, now: float) -> bool:
    """Whether a key has been listed for so long."""
    return key.epoch in view.listed and now - view.listed[key.epoch] >= patience


def _next_epoch(held: tuple[OwnKey, ...], listed: tuple[IdentityKey, ...]) -> int:
    return max([*(key.epoch for key in held), *(key.epoch for key in listed)], default=0) + 1
