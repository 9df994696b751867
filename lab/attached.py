"""``hoplite-lab exec``: a command that has the caller's terminal, and whose end is ours."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from types import FrameType

from lab.api import Target
from lab.processes import launcher


def run(target: Target, command: Sequence[str]) -> int:
    """Run a command with our stdin, stdout and stderr; 128 + n if signal n ended it."""
    process = subprocess.Popen(launcher(target.place, command), env=target.env)

    def forward(number: int, _: FrameType | None) -> None:
        process.send_signal(number)

    # A terminal sends these to the command as well; it decides what they mean.
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, forward)
    code = process.wait()
    return code if code >= 0 else 128 - code
