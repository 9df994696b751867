"""What every table says about where it was made."""

from __future__ import annotations

import datetime as dt
import os
import platform
import subprocess
from pathlib import Path


def lines() -> list[str]:
    """Machine, kernel, commit and date, one fact a line."""
    memory = int(_field(Path("/proc/meminfo"), "MemTotal").split()[0]) // 1024 // 1024
    processor = _field(Path("/proc/cpuinfo"), "model name")
    return [
        f"machine: {processor}, {os.cpu_count()} CPUs, {memory} GiB",
        f"kernel: Linux {platform.release()}",
        f"commit: {_commit()}",
        f"date: {dt.datetime.now(dt.UTC):%Y-%m-%d}",
    ]


def _field(path: Path, name: str) -> str:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "0"


def _commit() -> str:
    folder = Path(__file__).parent
    run = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return run.stdout.strip() or "unknown"
