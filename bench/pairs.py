"""Paired segments: A and B in turn, in alternating order, compared pair by pair.

Machines drift; the two halves of a pair are neighbours in time, so that drift cancels. The figure
is the median of the pairs' ratios, the spread their quartiles.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

Measure = Callable[[], float]


@dataclass(frozen=True)
class Ratio:
    """B over A: median and quartiles of the pairs, and the medians of both sides."""

    median: float
    low: float
    high: float
    without: float
    with_: float
    pairs: int


def compare(without: Measure, with_: Measure, pairs: int) -> Ratio:
    """Measure ``pairs`` pairs; the side that goes first changes with every pair."""
    sides: list[tuple[float, float]] = []
    for index in range(pairs):
        if index % 2:
            second = with_()
            first = without()
        else:
            first = without()
            second = with_()
        sides.append((first, second))
    ratios = [b / a for a, b in sides]
    low, _, high = statistics.quantiles(ratios, n=4)
    return Ratio(
        median=statistics.median(ratios),
        low=low,
        high=high,
        without=statistics.median(a for a, _ in sides),
        with_=statistics.median(b for _, b in sides),
        pairs=pairs,
    )
