"""Port ranges and the prefixes that the kernel looks up, against the plainest reading of both."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.policy.ports import (
    LAST,
    Range,
    Segment,
    intersect,
    joined,
    longest_prefix_table,
    merge,
    painted,
    prefixes,
    subtract,
)

port = st.integers(0, LAST)
ranges = st.tuples(port, port).map(lambda p: (min(p), max(p)))
sets_of_ranges = st.lists(ranges, max_size=5).map(joined)


def cut(bounds: list[int], values: list[str]) -> tuple[Segment[str], ...]:
    """Segments that cover every port, cut at ``bounds``."""
    edges = [0, *sorted(set(bounds) - {0}), LAST + 1]
    return painted(
        ((first, last - 1), values[i % len(values)])
        for i, (first, last) in enumerate(pairwise(edges))
    )


wholes = st.builds(cut, st.lists(port, max_size=5), st.lists(st.sampled_from("abc"), min_size=1))


def holds(some: tuple[Range, ...], number: int) -> bool:
    return any(first <= number <= last for first, last in some)


def value(whole: tuple[Segment[str], ...], number: int) -> str:
    return next(s.value for s in whole if s.first <= number <= s.last)


def look_up(table: dict[tuple[int, int], str], number: int) -> str:
    """What bpf/policy.h does: the longest prefix that is there decides."""
    for length in range(16, -1, -1):
        mask = (0xFFFF << (16 - length)) & 0xFFFF if length else 0
        if (number & mask, length) in table:
            return table[number & mask, length]
    raise AssertionError("length 0 is always there")


@given(sets_of_ranges, sets_of_ranges, st.lists(port, min_size=1))
def test_sets_of_ports(
    some: tuple[Range, ...], others: tuple[Range, ...], numbers: list[int]
) -> None:
    edges = [e for first, last in (*some, *others) for e in (first, last, last + 1)]
    for number in (*numbers, *(e for e in edges if e <= LAST)):
        one, other = holds(some, number), holds(others, number)
        assert holds(intersect(some, others), number) == (one and other)
        assert holds(subtract(some, others), number) == (one and not other)


@given(st.lists(ranges, max_size=6))
def test_joined_ranges_are_disjoint_and_apart(drawn: list[Range]) -> None:
    for (_, last), (first, _) in pairwise(joined(drawn)):
        assert last + 1 < first


@given(wholes, wholes, st.lists(port, min_size=1))
def test_merging_asks_at_every_port(
    one: tuple[Segment[str], ...], other: tuple[Segment[str], ...], numbers: list[int]
) -> None:
    both = merge(one, other, lambda a, b: a + b)
    assert (both[0].first, both[-1].last) == (0, LAST)
    for left, right in pairwise(both):
        assert left.last + 1 == right.first
        assert left.value != right.value
    for number in numbers:
        assert value(both, number) == value(one, number) + value(other, number)


@given(ranges)
def test_prefixes_cover_exactly_the_range(drawn: tuple[int, int]) -> None:
    first, last = drawn
    found = [(start, start + (1 << (16 - length)) - 1) for start, length in prefixes(first, last)]
    assert found[0][0] == first
    assert found[-1][1] == last
    for (_, end), (start, _) in pairwise(found):
        assert end + 1 == start
    for start, length in prefixes(first, last):
        assert start % (1 << (16 - length)) == 0
    assert len(found) <= 32


@given(wholes, st.lists(port, min_size=1, max_size=20))
def test_longest_prefix_gives_every_port_its_value(
    whole: tuple[Segment[str], ...], numbers: list[int]
) -> None:
    table = longest_prefix_table(whole)
    edges = [e for s in whole for e in (s.first, s.last)]
    for number in (*numbers, *edges):
        assert look_up(table, number) == value(whole, number)
