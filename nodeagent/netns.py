"""Network namespaces of workloads: which they are, and doing something inside one."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def of_cgroup(cgroup: Path) -> Iterator[int]:
    """A file descriptor of each network namespace that processes of a cgroup are in.

    Processes that end meanwhile are passed over; the caller closes what it gets.
    """
    seen = set()
    for process in _processes(cgroup):
        try:
            fd = os.open(f"/proc/{process}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue  # ended
        inode = os.fstat(fd).st_ino
        if inode in seen:
            os.close(fd)
            continue
        seen.add(inode)
        yield fd


def within(fd: int, work: Callable[[], T]) -> T:
    """Run ``work`` inside a namespace, on a thread that ends with it; the caller stays put."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            if _libc.setns(fd, _CLONE_NEWNET) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, name="netns")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _processes(cgroup: Path) -> Iterator[str]:
    for folder, _, files in os.walk(cgroup):
        if "cgroup.procs" not in files:
            continue
        try:
            text = Path(folder, "cgroup.procs").read_text(encoding="ascii")
        except OSError:
            continue  # removed, or threaded: its processes are listed at its root
        yield from text.split()
