"""Weighted choice in one look-up: alias tables (Walker 1974; construction by Vose 1991). Pure."""

from __future__ import annotations

from collections.abc import Sequence

FULL = 1 << 32


def alias_table(weights: Sequence[int]) -> list[tuple[int, int, int]]:
    """One ``(first, second, threshold)`` per weight; indexes into ``weights``.

    Draw a row with equal chance, then ``first`` with probability threshold / 2^32, else ``second``.
    Integers only, so that the chances are the weights' to within 2^-32 per row.
    """
    if not weights or sum(weights) <= 0:
        return []
    total, count = sum(weights), len(weights)
    share = [w * count for w in weights]  # in units of `total` per row
    poor = [i for i, s in enumerate(share) if s < total]
    rich = [i for i, s in enumerate(share) if s >= total]
    rows: list[tuple[int, int, int]] = [(i, i, FULL - 1) for i in range(count)]
    while poor and rich:
        small, large = poor.pop(), rich[-1]
        rows[small] = (small, large, min(share[small] * FULL // total, FULL - 1))
        share[large] -= total - share[small]
        if share[large] < total:
            poor.append(rich.pop())
    return rows
