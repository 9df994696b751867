"""Alias tables give every backend exactly its weight's share."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.desired.alias import FULL, alias_table

weights = st.lists(st.integers(0, 1_000_000), max_size=40)


def shares(table: list[tuple[int, int, int]], count: int) -> list[Fraction]:
    """The chance of each index, as the kernel draws."""
    found = [Fraction(0)] * count
    for first, second, threshold in table:
        chance = Fraction(threshold, FULL)
        found[first] += chance / len(table)
        found[second] += (1 - chance) / len(table)
    return found


@given(weights)
def test_shares_are_the_weights(drawn: list[int]) -> None:
    table = alias_table(drawn)
    if sum(drawn) == 0:
        assert table == []
        return
    assert len(table) == len(drawn)
    for share, weight in zip(shares(table, len(drawn)), drawn, strict=True):
        assert abs(share - Fraction(weight, sum(drawn))) < Fraction(len(drawn), 1 << 30)


def test_a_weight_of_zero_is_never_drawn() -> None:
    for first, second, threshold in alias_table([0, 5, 0, 7]):
        drawn = {first} if threshold == FULL - 1 else {first, second}
        if threshold == 0:
            drawn = {second}
        assert not drawn & {0, 2}


def test_thresholds_fit_the_kernel_field() -> None:
    for drawn in ([1], [1, 1], [99, 1], [1] * 1000):
        assert all(0 <= t < FULL for _, _, t in alias_table(drawn))
