"""Named network namespaces below /run/netns, where ``ip netns`` shows them too."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from lab import kernel
from lab.names import NETNS_ROOT

T = TypeVar("T")


def create(name: str) -> None:
    """Make an empty namespace; it lives until ``remove`` and its last process or socket."""
    _share_root()
    place = path(name)
    place.touch(mode=0o444, exist_ok=False)

    def pin() -> None:
        kernel.new_netns()
        kernel.bind_mount("/proc/thread-self/ns/net", place)

    try:
        _in_thread(pin)
    except OSError:
        place.unlink()
        raise


def remove(name: str) -> None:
    """Take a namespace's name away; half-made ones too."""
    with suppress(OSError):  # EINVAL: never mounted
        kernel.unmount(path(name))
    path(name).unlink(missing_ok=True)


def names() -> list[str]:
    """Every named namespace of this machine."""
    try:
        return sorted(p.name for p in NETNS_ROOT.iterdir())
    except FileNotFoundError:
        return []


def path(name: str) -> Path:
    return NETNS_ROOT / name


def within(name: str, work: Callable[[], T]) -> T:
    """Run ``work`` inside a namespace, on a thread that ends with it; the caller stays put."""

    def entered() -> T:
        kernel.enter_netns(path(name))
        return work()

    return _in_thread(entered)


def _share_root() -> None:
    """Do what the first ``ip netns add`` would do: otherwise it would mount /run/netns over ours.

    The lock is the one that iproute2 takes.
    """
    NETNS_ROOT.mkdir(exist_ok=True)
    fd = os.open(NETNS_ROOT, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        kernel.share_mounts(NETNS_ROOT)
    finally:
        os.close(fd)


def _in_thread(work: Callable[[], T]) -> T:
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, name="netns")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
