"""The few system calls that Python 3.11 does not offer: namespaces and mounts.

Each raises OSError with the kernel's own errno.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_SHARED = 1 << 20
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def new_netns() -> None:
    """Give the calling thread a network namespace of its own."""
    _checked(_libc.unshare(_CLONE_NEWNET), "unshare")


def enter_netns(path: Path) -> None:
    """Move the calling thread into a network namespace."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc.setns(fd, _CLONE_NEWNET), str(path))
    finally:
        os.close(fd)


def bind_mount(source: str, target: Path) -> None:
    _checked(
        _libc.mount(source.encode(), os.fsencode(target), b"none", _MS_BIND, None), str(target)
    )


def share_mounts(target: Path) -> None:
    """Have what is mounted below ``target`` from now on seen in every mount namespace."""
    try:
        _set_shared(target)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        where = os.fsencode(target)  # not a mount yet: make it one
        _checked(_libc.mount(where, where, b"none", _MS_BIND | _MS_REC, None), str(target))
        _set_shared(target)


def mount(kind: str, target: Path) -> None:
    """Mount a file system that needs no device."""
    _checked(_libc.mount(kind.encode(), os.fsencode(target), kind.encode(), 0, None), str(target))


def unmount(target: Path) -> None:
    """Detach a mount now, even if it is in use; its last user ends it."""
    _checked(_libc.umount2(os.fsencode(target), _MNT_DETACH), str(target))


def _set_shared(target: Path) -> None:
    flags = _MS_SHARED | _MS_REC
    _checked(_libc.mount(b"", os.fsencode(target), b"none", flags, None), str(target))


def _checked(result: int, subject: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), subject)
