"""How the demo tells its story: what it does, the very command, and its real output."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from meshapi.errors import HopliteError

_MODULES = {"hopctl": "hopctl", "hoplite-lab": "lab"}
_LINES = 16
_WIDTH = 160


class Narrator:
    """Runs and shows commands; ``env`` is what they have besides this process's own."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._steps = 0
        self.patience = 60.0  # seconds a command may take
        self.env: dict[str, str] = {}

    def step(self, title: str, text: str = "") -> None:
        self._steps += 1
        self._console.print(f"\n[bold cyan]{self._steps}. {escape(title)}[/]")
        if text:
            self._console.print(escape(text), style="italic")

    def run(
        self,
        *words: str,
        fails: bool = False,
        show: Callable[[str], str] | None = None,
    ) -> str:
        """Run a command and return its standard output, or if it is to fail, its errors.

        ``show`` shortens what is shown of the output.
        """
        self._console.print(f"[bold]$ {escape(shlex.join(words))}[/]", soft_wrap=True)
        try:
            result = subprocess.run(
                _real(words),
                env={**os.environ, **self.env},
                capture_output=True,
                text=True,
                errors="replace",
                timeout=self.patience,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise self._failure(f"{shlex.join(words)} took over {self.patience:g} s") from None
        shown = _cut((show or str)(result.stdout) + result.stderr)
        self._console.print(escape(shown), style="dim", soft_wrap=True, highlight=False)
        if (result.returncode != 0) != fails:
            how = "succeeded" if fails else f"ended with status {result.returncode}"
            raise self._failure(f"{shlex.join(words)} {how}")
        return result.stderr if fails else result.stdout

    def expect(self, holds: bool, what: str) -> None:
        """Say that ``what`` is so; if it is not, the demo has failed."""
        if not holds:
            raise self._failure(f"not so: {what}")
        self._console.print(f"[green]✓[/] {escape(what)}")

    def _failure(self, what: str) -> HopliteError:
        return HopliteError(what, where=f"demo step {self._steps}")


def _real(words: Sequence[str]) -> list[str]:
    """The command itself; our own scripts are those beside this Python, installed or not."""
    script = Path(sys.executable).with_name(words[0])
    if words[0] not in _MODULES:
        return list(words)
    if script.exists():
        return [str(script), *words[1:]]
    return [sys.executable, "-m", _MODULES[words[0]], *words[1:]]


def _cut(text: str) -> str:
    """What fits a screen."""
    lines = [line if len(line) <= _WIDTH else f"{line[:_WIDTH]}…" for line in text.splitlines()]
    more = len(lines) - _LINES
    return "\n".join([*lines[:_LINES], *([f"… {more} more lines"] if more > 0 else [])])
