"""Alias tables give every backend exactly its weight's share."""

from __future__ import annotations

import random
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.desired.alias import FULL, alias_table

LAST_WEIGHT = 65_535  # of Workload.spec.weight
weights = st.lists(st.integers(0, LAST_WEIGHT), max_size=40)


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


def test_five_thousand_backends_get_exactly_their_shares() -> None:
    draw = random.Random(5)  # noqa: S311 - a test's
    drawn = [draw.choice((1, 1, 1, 2, 99, LAST_WEIGHT)) for _ in range(5000)]
    found = shares(alias_table(drawn), len(drawn))
    total = sum(drawn)
    assert sum(found) == 1
    worst = max(abs(share - Fraction(w, total)) for share, w in zip(found, drawn, strict=True))
    assert worst < Fraction(5000, FULL)  # each row rounds once; the sum of a backend's rows


def test_draws_as_the_kernel_makes_them_come_out_by_weight() -> None:
    draw = random.Random(7)  # noqa: S311 - a test's
    drawn = [1] * 4999 + [5000]
    table = alias_table(drawn)
    counts = [0] * len(drawn)
    tries = 200_000
    for _ in range(tries):
        first, second, threshold = table[draw.getrandbits(32) * len(table) >> 32]
        counts[first if draw.getrandbits(32) < threshold else second] += 1
    half = tries * 5000 / 9999
    assert abs(counts[-1] - half) < 6 * (half / 2) ** 0.5
    others = counts[:-1]
    mean = tries / 9999
    chi = sum((n - mean) ** 2 / mean for n in others)
    assert abs(chi - len(others)) < 6 * (2 * len(others)) ** 0.5


def test_the_heaviest_and_the_lightest_together() -> None:
    found = shares(alias_table([LAST_WEIGHT] * 4999 + [1]), 5000)
    assert 0 < found[-1] < Fraction(2, LAST_WEIGHT * 4999)
