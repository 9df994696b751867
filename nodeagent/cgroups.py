"""Finds this node's workloads: the cgroup that a Workload names, its id and its level."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from meshapi.resources import Workload
from nodeagent.machine import cgroup_level
from nodeagent.state import Name


class CgroupFinder:
    """Looks below one cgroup root; a cgroup that was removed and made again is noticed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._level = cgroup_level(root)

    def find(self, workloads: Iterable[Workload]) -> dict[Name, tuple[int, int]]:
        """``(cgroup id, level)`` of every workload whose cgroup exists."""
        found = {}
        for workload in workloads:
            path = self._root / workload.spec.cgroup
            try:
                number = path.stat().st_ino  # a cgroup's id is its inode (64-bit kernels)
            except OSError:
                continue
            level = self._level + len(Path(workload.spec.cgroup).parts)
            found[workload.metadata.namespace, workload.metadata.name] = (number, level)
        return found
