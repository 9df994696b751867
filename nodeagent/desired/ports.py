"""Port ranges: disjoint segments, and the port prefixes that the kernel looks up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeVar

T = TypeVar("T")

LAST = 65535


@dataclass(frozen=True)
class Segment(Generic[T]):
    """Ports ``first`` to ``last``, both included, and what holds for them."""

    first: int
    last: int
    value: T


def paint(background: T, layers: Sequence[Segment[T]]) -> list[Segment[T]]:
    """Disjoint segments that cover every port; where layers overlap, the earlier one shows."""
    cuts = sorted({0, LAST + 1, *(s.first for s in layers), *(s.last + 1 for s in layers)})
    painted: list[Segment[T]] = []
    for first, following in pairwise(cuts):
        value = next((s.value for s in layers if s.first <= first <= s.last), background)
        if painted and painted[-1].value == value:
            painted[-1] = Segment(painted[-1].first, following - 1, value)
        else:
            painted.append(Segment(first, following - 1, value))
    return painted


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

    Length 0 is the pair's default: the value that covers most ports.
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
