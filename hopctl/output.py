"""Tables and documents on standard output: coloured for people, plain and whole for pipes."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

Tone = Literal["", "good", "bad", "warn", "dim"]

_STYLES = {"": "", "good": "green", "bad": "red", "warn": "yellow", "dim": "dim"}
_WIDTH = 10_000  # columns; lines are never folded here, a terminal folds them by itself


@dataclass(frozen=True)
class Cell:
    """A table's cell; ``tone`` says how the reader should take it."""

    text: str
    tone: Tone = ""


class Table:
    """Rows under a header; written in parts, it keeps its columns in line."""

    def __init__(self, header: Sequence[str], colour: bool | None = None) -> None:
        self._header = header
        self._widths = [0] * len(header)
        self._colour = _wants_colour() if colour is None else colour
        self._begun = False

    def write(self, rows: Sequence[Sequence[Cell]]) -> None:
        """Add rows; the header comes before the first of them."""
        sys.stdout.write(self.render(rows))
        sys.stdout.flush()

    def render(self, rows: Sequence[Sequence[Cell]]) -> str:
        from rich.console import Console
        from rich.table import Table as RichTable
        from rich.text import Text

        self._measure(rows)
        table = RichTable(
            box=None, pad_edge=False, show_header=not self._begun, padding=(0, 2, 0, 0)
        )
        for name, width in zip(self._header, self._widths, strict=True):
            table.add_column(name, no_wrap=True, min_width=width, header_style="bold")
        for row in rows:
            table.add_row(*(Text(cell.text, style=_STYLES[cell.tone]) for cell in row))
        self._begun = True
        drawn = io.StringIO()
        Console(
            file=drawn,
            width=_WIDTH,
            force_terminal=self._colour,
            color_system="standard" if self._colour else None,
        ).print(table)
        return "".join(line.rstrip() + "\n" for line in drawn.getvalue().splitlines())

    def _measure(self, rows: Sequence[Sequence[Cell]]) -> None:
        names = [] if self._begun else [[Cell(name) for name in self._header]]
        for row in [*names, *rows]:
            self._widths = [max(w, len(c.text)) for w, c in zip(self._widths, row, strict=True)]


def json_text(value: Any) -> str:
    """Indented JSON with a newline at its end."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"


def yaml_text(value: Any) -> str:
    """YAML in the order of the fields."""
    import yaml

    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return text


def warn(text: str) -> None:
    """One line beside the result, on standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _wants_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
