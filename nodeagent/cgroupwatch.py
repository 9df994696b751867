"""Says at once when a workload's cgroup may have come, gone, or been made anew (inotify(7))."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable
from pathlib import Path

from inotify_simple import INotify, flags

from meshapi.resources import Workload

_log = logging.getLogger(__name__)

_MASK = flags.CREATE | flags.DELETE | flags.ONLYDIR


class CgroupWatch:
    """Watches the folders in which cgroups of workloads are, or will be.

    Who waits reads from ``fileno`` and then calls ``follow`` again: below a folder that was made,
    another may have been made before it was watched. Where watches run out, a look now and then
    has to do.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._inotify = INotify(nonblocking=True)
        self._watched: dict[Path, int] = {}
        self._exhausted = False

    def fileno(self) -> int:
        return int(self._inotify.fileno())

    def follow(self, workloads: Iterable[Workload]) -> None:
        """Watch what these workloads need, and nothing else; what has happened is forgotten."""
        list(self._inotify.read(timeout=0))
        wanted = {self._nearest(Path(w.spec.cgroup).parent) for w in workloads}
        for path in self._watched.keys() - wanted:
            self._drop(path)
        for path in wanted:
            self._add(path)

    def close(self) -> None:
        self._inotify.close()

    def _nearest(self, below: Path) -> Path:
        """The folder itself, or the first above it that is there."""
        path = self._root / below
        while path != self._root and not path.is_dir():
            path = path.parent
        return path

    def _add(self, path: Path) -> None:
        """Watch a folder; one that was made anew is another one, though its name is the same."""
        try:
            self._watched[path] = self._inotify.add_watch(path, _MASK)
        except OSError as error:
            if error.errno == errno.ENOSPC and not self._exhausted:
                self._exhausted = True
                _log.warning(
                    "no inotify watches left: cgroups are noticed a second later",
                    extra={"fix": "raise fs.inotify.max_user_watches"},
                )
            # otherwise it has gone; the next look will find what is there instead

    def _drop(self, path: Path) -> None:
        try:
            self._inotify.rm_watch(self._watched.pop(path))
        except OSError as error:
            if error.errno != errno.EINVAL:  # the kernel drops watches of folders that are gone
                raise
