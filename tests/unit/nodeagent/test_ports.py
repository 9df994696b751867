"""Port segments and the prefixes that the kernel looks up, against the plainest reading of both."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.desired.ports import LAST, Segment, longest_prefix_table, paint, prefixes

port = st.integers(0, LAST)
ranges = st.tuples(port, port).map(lambda p: (min(p), max(p)))
layers = st.lists(st.tuples(ranges, st.sampled_from("abc")), max_size=6).map(
    lambda items: [Segment(first, last, value) for (first, last), value in items]
)


def look_up(table: dict[tuple[int, int], str], number: int) -> str:
    """What bpf/policy.h does: the longest prefix that is there decides."""
    for length in range(16, -1, -1):
        mask = (0xFFFF << (16 - length)) & 0xFFFF if length else 0
        if (number & mask, length) in table:
            return table[number & mask, length]
    raise AssertionError("length 0 is always there")


@given(layers, port)
def test_paint_shows_the_earlier_layer(drawn: list[Segment[str]], number: int) -> None:
    painted = paint("-", drawn)
    expected = next((s.value for s in drawn if s.first <= number <= s.last), "-")
    assert [s.value for s in painted if s.first <= number <= s.last] == [expected]


@given(layers)
def test_painted_segments_are_disjoint_and_whole(drawn: list[Segment[str]]) -> None:
    painted = paint("-", drawn)
    assert painted[0].first == 0
    assert painted[-1].last == LAST
    for left, right in pairwise(painted):
        assert left.last + 1 == right.first
        assert left.value != right.value


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


@given(layers, st.lists(port, min_size=1, max_size=20))
def test_longest_prefix_gives_every_port_its_value(
    drawn: list[Segment[str]], numbers: list[int]
) -> None:
    painted = paint("-", drawn)
    table = longest_prefix_table(painted)
    edges = [e for s in painted for e in (s.first, s.last)]
    for number in (*numbers, *edges):
        expected = next(s.value for s in painted if s.first <= number <= s.last)
        assert look_up(table, number) == expected
