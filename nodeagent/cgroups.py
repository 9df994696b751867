"""Finds this node's workloads: the cgroup that a Workload names, its id and its level."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import struct
from collections.abc import Iterable
from pathlib import Path

from meshapi.resources import Workload
from nodeagent.machine import cgroup_level
from nodeagent.state import Name

_log = logging.getLogger(__name__)

_IN_MOVED_TO, _IN_CREATE, _IN_DELETE = 0x80, 0x100, 0x200  # inotify(7)
_IN_IGNORED, _IN_ONLYDIR = 0x8000, 0x01000000
_CHANGES = _IN_MOVED_TO | _IN_CREATE | _IN_DELETE | _IN_ONLYDIR
_EVENT = struct.Struct("=iIII")  # watch, mask, cookie, bytes of the name that follows


class CgroupFinder:
    """Looks below one cgroup root; a cgroup that was removed and made again is noticed.

    ``fd`` becomes readable when cgroups come or go where workloads are expected; ``heard`` takes
    the news off it. So a workload is enrolled when its cgroup is made, and not at the next look.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._level = cgroup_level(root)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._watched: dict[Path, int] = {}

    def find(self, workloads: Iterable[Workload]) -> dict[Name, tuple[int, int]]:
        """``(cgroup id, level)`` of every workload whose cgroup exists."""
        found = {}
        for workload in workloads:
            path = self._root / workload.spec.cgroup
            self._watch(path)  # first, lest it is made between the look and the watch
            try:
                number = path.stat().st_ino  # a cgroup's id is its inode (64-bit kernels)
            except OSError:
                continue
            level = self._level + len(Path(workload.spec.cgroup).parts)
            found[workload.metadata.namespace, workload.metadata.name] = (number, level)
        return found

    def heard(self) -> None:
        """Forget what was told on ``fd``, but for the directories that are watched no more."""
        try:
            told = os.read(self.fd, 65536)
        except BlockingIOError:
            return
        gone, at = set(), 0
        while at < len(told):
            watch, mask, _, length = _EVENT.unpack_from(told, at)
            at += _EVENT.size + length
            if mask & _IN_IGNORED:  # removed
                gone.add(watch)
        if gone:
            self._watched = {p: w for p, w in self._watched.items() if w not in gone}

    def _watch(self, cgroup: Path) -> None:
        """Hear of changes in every directory on the way to a cgroup that there is by now."""
        for folder in reversed(cgroup.parents):
            if folder in self._watched or not folder.is_relative_to(self._root):
                continue
            watch = self._libc.inotify_add_watch(self.fd, os.fsencode(folder), _CHANGES)
            if watch < 0:
                if ctypes.get_errno() != errno.ENOENT:
                    reason = os.strerror(ctypes.get_errno())
                    _log.warning("cgroups are looked for every second only", extra={"why": reason})
                return
            self._watched[folder] = watch
