"""A benchmark's result: rows of what was measured, the figure, the goal and whether it was met."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from bench.pairs import Ratio


@dataclass(frozen=True)
class Row:
    """One figure. ``met`` is None where there is no goal."""

    what: str
    figure: str
    goal: str = ""
    met: bool | None = None
    detail: str = ""


def ratio_row(what: str, ratio: Ratio, goal: float | None, unit: str) -> Row:
    """A row for a ratio against no mesh."""
    return Row(
        what,
        f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})",
        f"≤ {goal:.2f}" if goal else "",
        ratio.median <= goal if goal else None,
        f"{ratio.without:.2f} → {ratio.with_:.2f} {unit}, {ratio.pairs} pairs",
    )


def show(title: str, rows: list[Row]) -> None:
    """Print one benchmark's rows."""
    table = Table(title=title, title_justify="left")
    for column in ("what", "figure", "goal", "met", "detail"):
        table.add_column(column)
    for row in rows:
        table.add_row(row.what, row.figure, row.goal, _met(row), row.detail)
    Console().print(table)


def markdown(title: str, rows: list[Row]) -> str:
    """The same as Markdown, for docs/performance.md."""
    lines = [f"### {title}", "", "| what | figure | goal | met | detail |", "|---|---|---|---|---|"]
    lines += [
        f"| {row.what} | {row.figure} | {row.goal} | {_met(row)} | {row.detail} |" for row in rows
    ]
    return "\n".join([*lines, ""])


def _met(row: Row) -> str:
    return "" if row.met is None else "yes" if row.met else "no"
