"""Control groups, version 2: find the hierarchy, make, look into, kill and remove subtrees."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from meshapi.errors import HopliteError

_PAUSE = 0.01  # seconds between two looks


def find_mount(mountinfo: str) -> Path:
    """Where cgroup v2 is mounted, from the text of /proc/self/mountinfo (proc(5))."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if after.split(" ", 1)[0] == "cgroup2":
            return Path(before.split(" ")[4])
    raise HopliteError(
        "cgroup v2 is not mounted",
        where="/proc/self/mountinfo",
        fix="boot with cgroup v2, or run: mount -t cgroup2 none /sys/fs/cgroup/unified",
    )


def mount_point() -> Path:
    return find_mount(Path("/proc/self/mountinfo").read_text())


def make(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)


def subtree(path: Path) -> list[Path]:
    """A group and all below it, deepest first; empty if it is not there."""
    return [Path(directory) for directory, _, _ in os.walk(path, topdown=False)]


def pids(path: Path) -> list[int]:
    """The processes of a group and of all below it."""
    found: list[int] = []
    for group in subtree(path):
        with suppress(OSError):  # removed since
            found += [int(pid) for pid in (group / "cgroup.procs").read_text().split()]
    return found


def terminate(path: Path, grace: float) -> None:
    """Ask every process of a subtree to end; returns when they have, or after ``grace`` seconds."""
    for pid in pids(path):
        _signal(pid, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while pids(path) and time.monotonic() < deadline:
        time.sleep(_PAUSE)


def kill(path: Path, patience: float = 5.0) -> None:
    """Kill every process of a subtree and wait until they are gone."""
    deadline = time.monotonic() + patience
    while pids(path):
        if time.monotonic() > deadline:
            left = ", ".join(map(str, pids(path)))
            raise HopliteError(f"processes {left} do not die", where=str(path), fix="see dmesg")
        try:
            (path / "cgroup.kill").write_text("1")
        except OSError:  # kernels before 5.14
            for pid in pids(path):
                _signal(pid, signal.SIGKILL)
        time.sleep(_PAUSE)


def remove(path: Path, patience: float = 5.0) -> None:
    """Remove a subtree that has no processes; the kernel may need a moment to let go of it."""
    deadline = time.monotonic() + patience
    for group in subtree(path):
        while True:
            try:
                group.rmdir()
            except FileNotFoundError:
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise HopliteError(
                        f"cannot be removed: {error.strerror}", where=str(group), fix="see dmesg"
                    ) from error
                time.sleep(_PAUSE)
            else:
                break


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
