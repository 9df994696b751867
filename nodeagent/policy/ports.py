"""Port ranges: disjoint segments, and the port prefixes that the kernel looks up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

LAST = 65535

Range = tuple[int, int]  # first and last port, both included
EVERY_PORT: tuple[Range, ...] = ((0, LAST),)


@dataclass(frozen=True)
class Segment(Generic[T]):
    """Ports ``first`` to ``last``, both included, and what holds for them."""

    first: int
    last: int
    value: T


def intersect(some: Iterable[Range], others: Sequence[Range]) -> tuple[Range, ...]:
    """The ports that are in both."""
    return tuple(
        (max(a, c), min(b, d)) for a, b in some for c, d in others if max(a, c) <= min(b, d)
    )


def subtract(some: Iterable[Range], others: Iterable[Range]) -> tuple[Range, ...]:
    """The ports of ``some`` that are not in ``others``."""
    left = list(some)
    for c, d in others:
        left = [
            part
            for a, b in left
            for part in (((a, b),) if d < a or b < c else ((a, c - 1), (d + 1, b)))
            if part[0] <= part[1]
        ]
    return tuple(left)


def joined(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """The same ports as disjoint ranges in order."""
    result: list[Range] = []
    for first, last in sorted(ranges):
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(result[-1][1], last))
        else:
            result.append((first, last))
    return tuple(result)


def painted(parts: Iterable[tuple[Range, T]]) -> tuple[Segment[T], ...]:
    """Disjoint ranges as segments in order, neighbours of one value joined."""
    segments: list[Segment[T]] = []
    for (first, last), value in sorted(parts, key=lambda part: part[0]):
        if segments and segments[-1].value == value and segments[-1].last == first - 1:
            segments[-1] = Segment(segments[-1].first, last, value)
        else:
            segments.append(Segment(first, last, value))
    return tuple(segments)


def merge(
    some: Sequence[Segment[T]], others: Sequence[Segment[T]], choose: Callable[[T, T], T]
) -> tuple[Segment[T], ...]:
    """Two that cover every port, as one: ``choose`` says what holds where they meet."""
    if len(some) == len(others) == 1:
        return (Segment(0, LAST, choose(some[0].value, others[0].value)),)
    return painted(
        ((max(a.first, b.first), min(a.last, b.last)), choose(a.value, b.value))
        for a in some
        for b in others
        if max(a.first, b.first) <= min(a.last, b.last)
    )


def prefixes(first: int, last: int) -> Iterator[tuple[int, int]]:
    """The fewest ``(port, length)`` prefixes of 16-bit ports that cover ``first`` to ``last``."""
    while first <= last:
        size = first & -first if first else LAST + 1
        while first + size - 1 > last:
            size //= 2
        yield first, 16 - size.bit_length() + 1
        first += size


def longest_prefix_table(segments: Sequence[Segment[T]]) -> dict[tuple[int, int], T]:
    """``(port, length) -> value`` such that the longest matching prefix gives each port's value.

    Length 0 is the default: the value that covers most ports.
    """
    covered: dict[T, int] = {}
    for segment in segments:
        covered[segment.value] = covered.get(segment.value, 0) + segment.last - segment.first + 1
    default = max(covered, key=lambda value: covered[value])
    table: dict[tuple[int, int], T] = {(0, 0): default}
    for segment in segments:
        if segment.value != default:
            for prefix in prefixes(segment.first, segment.last):
                table[prefix] = segment.value
    return table
