"""Finds the host's ends of pods' interfaces, and the node's own interfaces.

A pod's processes say which network namespaces are its own; the node's interfaces say which
namespace their other end is in. An interface stays a pod's for as long as it is there: the pod may
have no process for a while, and cannot shake off what watches it by moving elsewhere.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from meshapi.resources import Workload
from nodeagent import netlink, netns
from nodeagent.desired.units import HostEnd, Interfaces
from nodeagent.netlink import Link
from nodeagent.state import Name

_log = logging.getLogger(__name__)

_LOOK_AGAIN = 10  # even if nothing was heard, every so many looks


class InterfaceFinder:
    """Looks below one cgroup root, in the calling process's network namespace.

    ``uplinks`` names the node's own interfaces. None is taken for one that is not named.
    """

    def __init__(self, root: Path, uplinks: Iterable[str] = ()) -> None:
        self._root = root
        self._uplinks = frozenset(uplinks)
        self._absent: frozenset[str] = frozenset()  # named, but not there
        self._watch = netlink.Watch()
        self._owners: dict[int, tuple[str, Name]] = {}  # by index: interface's name, whose it is
        self._seen: dict[Name, tuple[int, frozenset[int]]] = {}  # cgroup and namespaces of each
        self._found = Interfaces()
        self._looks = 0

    def fileno(self) -> int:
        """Readable when interfaces have changed."""
        return self._watch.fileno()

    def find(
        self, workloads: Iterable[Workload], cgroups: Mapping[Name, tuple[int, int]]
    ) -> Interfaces:
        """What is there now; asks the kernel only when it may be something else."""
        pods = {
            (w.metadata.namespace, w.metadata.name): (w.spec.cgroup, cgroups[key][0])
            for w in workloads
            if (key := (w.metadata.namespace, w.metadata.name)) in cgroups
            and w.spec.network == "pod"
        }
        heard = self._watch.heard()
        if heard or self._looks % _LOOK_AGAIN == 0 or self._others(pods):
            self._found = self._look(pods)
        self._looks += 1
        return self._found

    def _others(self, pods: Mapping[Name, tuple[str, int]]) -> bool:
        """Whether there are other pods, or one without an interface has moved."""
        if {n: cgroup for n, (_, cgroup) in pods.items()} != {
            n: cgroup for n, (cgroup, _) in self._seen.items()
        }:
            return True
        guarded = {name for end in self._found.ends.values() for name in end.workloads}
        return any(
            {inode for inode, _ in _open_namespaces(self._root / path)} != self._seen[name][1]
            for name, (path, _) in pods.items()
            if name not in guarded
        )

    def _look(self, pods: Mapping[Name, tuple[str, int]]) -> Interfaces:
        links = netlink.links()
        veths = {link.index: link for link in links if link.kind == "veth" and link.netns >= 0}
        spaces = self._numbered(pods)
        ends = {}
        for index, link in veths.items():
            names = sorted(name for name, numbers in spaces.items() if link.netns in numbers)
            former = self._owners.get(index, ("", ("", "")))
            if former[0] == link.name and former[1] in pods:
                names = [former[1], *(name for name in names if name != former[1])]
            if names:
                ends[index] = HostEnd(link.netns, tuple(names))
        self._owners = {i: (veths[i].name, end.workloads[0]) for i, end in ends.items()}
        guarded = {name for end in ends.values() for name in end.workloads}
        unguarded = (n for n, (_, inodes) in self._seen.items() if inodes and n not in guarded)
        return Interfaces(ends, self._find_uplinks(links) - ends.keys(), frozenset(unguarded))

    def _numbered(self, pods: Mapping[Name, tuple[str, int]]) -> dict[Name, set[int]]:
        """The numbers of each pod's namespaces, as far as interfaces lead there."""
        numbers: dict[int, int] = {}  # by inode
        found: dict[Name, set[int]] = {}
        self._seen = {}
        for name, (path, cgroup) in pods.items():
            inodes = set()
            for inode, fd in _open_namespaces(self._root / path):
                inodes.add(inode)
                if inode not in numbers:
                    numbers[inode] = netlink.namespace_number(fd)
            self._seen[name] = (cgroup, frozenset(inodes))
            found[name] = {numbers[inode] for inode in inodes}
        return found

    def _find_uplinks(self, links: Iterable[Link]) -> frozenset[int]:
        found = {link.name: link.index for link in links if link.name in self._uplinks}
        absent = self._uplinks - found.keys()
        if absent - self._absent:
            _log.warning("no such uplink yet", extra={"uplinks": sorted(absent)})
        self._absent = absent
        return frozenset(found.values())


def _open_namespaces(cgroup: Path) -> Iterator[tuple[int, int]]:
    """Inode and file descriptor of the namespaces of a cgroup's processes, but for our own."""
    own = Path("/proc/thread-self/ns/net").stat().st_ino
    for fd in netns.of_cgroup(cgroup):
        try:
            inode = os.fstat(fd).st_ino
            if inode != own:
                yield inode, fd
        finally:
            os.close(fd)
