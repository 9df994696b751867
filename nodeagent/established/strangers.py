"""Connections that were open before their workload was enrolled: they get the record they lack.

A cgroup is found a moment after it was made, and an agent may be new to a machine that has long
been at work. What was connected until then has passed no hook. With a record it is judged, cut and
told like every other connection; of its bytes and its beginning nothing is known.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from meshapi.errors import HopliteError
from meshapi.verdict import Direction, Reason
from nodeagent import netns
from nodeagent.datapath import sockdiag
from nodeagent.datapath.libbpf import KernelMap
from nodeagent.datapath.sockdiag import Connection
from nodeagent.desired.compiler import Compiler
from nodeagent.established.judge import local_of, peer_of
from nodeagent.layout import LIVE

_log = logging.getLogger(__name__)

_AGAIN_SECONDS = 1.0
_HANDSHAKE_SECONDS = 130.0  # as long as a SYN or its answer is sent again
_TCP = 6

Found = dict[int, list[Connection]]  # by the workload's cgroup


class Strangers:
    """Finds them for each cgroup that is new to this agent."""

    def __init__(self, sockets: KernelMap) -> None:
        self._sockets = sockets
        self._begun: dict[int, float] = {}  # cgroup -> when it was first looked at
        self._again: dict[int, float] = {}  # cgroup -> when to look again

    @property
    def deadlines(self) -> Iterable[float]:
        """When ``adopt`` has something to do by itself."""
        return self._again.values()

    async def adopt(self, compiler: Compiler, cgroups: Mapping[int, Path]) -> int:
        """Give records to the strangers of ``cgroups`` (path by id); how many there were."""
        now = time.monotonic()
        self._begun = {number: since for number, since in self._begun.items() if number in cgroups}
        self._again = {number: when for number, when in self._again.items() if number in cgroups}
        due = {n: path for n, path in cgroups.items() if self._is_due(n, now)}
        if not due:
            return 0
        found = await asyncio.to_thread(look, due)
        adopted: list[bytes] = []
        for number, connections in found.items():
            self._again.pop(number, None)
            if half_open(connections) and now - self._begun[number] < _HANDSHAKE_SECONDS:
                self._again[number] = now + _AGAIN_SECONDS
            adopted += self._record(compiler, number, connections)
        if adopted:
            _log.info("connections from before enrolment", extra={"found": len(adopted)})
            await self._forget_ended(adopted, due)
        return len(adopted)

    def _is_due(self, number: int, now: float) -> bool:
        if number not in self._begun:
            self._begun[number] = now
            return True
        return self._again.get(number, now + 1) <= now

    def _record(self, compiler: Compiler, number: int, found: list[Connection]) -> list[bytes]:
        cookie, value = LIVE["sockets"]
        listening = frozenset(c.local_port for c in found if c.state == sockdiag.LISTEN)
        made = []
        for one in found:
            waits = one.state in {sockdiag.LISTEN, sockdiag.SYN_RECEIVED}
            if one.state == sockdiag.ESTABLISHED or (one.held and not waits):
                key = cookie.pack({"cookie": one.cookie})
                flow = record(compiler, number, one, one.local_port in listening)
                if flow is not None and self._sockets.insert(key, value.pack(flow)):
                    made.append(key)
        return made

    async def _forget_ended(self, adopted: Iterable[bytes], cgroups: dict[int, Path]) -> None:
        """Take away the records of those that ended before they had one."""
        still = await asyncio.to_thread(look, cgroups)
        cookies = {c.cookie.to_bytes(8, "little") for found in still.values() for c in found}
        for key in adopted:
            if key not in cookies:
                self._sockets.delete(key)


def look(cgroups: Mapping[int, Path]) -> Found:
    """The TCP sockets of each cgroup and those below it, in the namespaces of its processes."""
    owners: dict[int, int] = {}
    spaces: dict[int, int] = {}  # namespace inode -> file descriptor
    try:
        for number, path in cgroups.items():
            owners |= dict.fromkeys(_with_descendants(number, path), number)
            for fd in netns.of_cgroup(path):
                inode = os.fstat(fd).st_ino
                if inode in spaces:
                    os.close(fd)
                else:
                    spaces[inode] = fd
        found: Found = {number: [] for number in cgroups}
        for fd in spaces.values():
            here = netns.within(fd, sockdiag.sockets)
            listeners = {
                c.local_port: owners[c.cgroup]
                for c in here
                if c.state == sockdiag.LISTEN and c.cgroup in owners
            }
            for one in here:
                owner = owners.get(one.cgroup)
                if owner is None and one.state == sockdiag.SYN_RECEIVED:
                    owner = listeners.get(one.local_port)  # it has no cgroup yet
                if owner is not None:
                    found[owner].append(one)
    except (HopliteError, OSError) as error:
        _log.error("connections cannot be listed", extra={"error": str(error)})
        return {}
    finally:
        for fd in spaces.values():
            os.close(fd)
    return found


def _with_descendants(number: int, path: Path) -> list[int]:
    """The ids of a cgroup and of those below it."""
    found = [number]
    for folder, _, _ in os.walk(path):
        try:
            found.append(Path(folder).stat().st_ino)
        except FileNotFoundError:
            continue  # removed meanwhile: nothing runs there any more
    return found


def half_open(found: Iterable[Connection]) -> bool:
    """Whether a handshake is on its way that may have begun before the workload was enrolled."""
    return any(one.state == sockdiag.SYN_RECEIVED for one in found)


def record(
    compiler: Compiler, cgroup: int, connection: Connection, inbound: bool
) -> dict[str, object] | None:
    """The record that a hook would have made, as far as it can be known; None if not enrolled."""
    own = local_of(compiler, cgroup, connection.remote)
    if own is None:
        return None
    peer = peer_of(compiler, connection.remote, connection.remote_port, _TCP, by_port=not inbound)
    here = ("destination", "destination_class") if inbound else ("source", "source_class")
    there = ("source", "source_class") if inbound else ("destination", "destination_class")
    now = time.monotonic_ns()
    return {
        "started": now,
        "established": now,
        "cgroup": cgroup,
        "dialled": connection.local if inbound else connection.remote,
        "dialled_port": connection.local_port if inbound else connection.remote_port,
        "actual": connection.remote,
        "actual_port": connection.remote_port,
        here[0]: own.identity,
        here[1]: own.number,
        there[0]: peer.identity,
        there[1]: peer.number,
        "protocol": _TCP,
        "direction": Direction.INBOUND if inbound else Direction.OUTBOUND,
        "reason": Reason.OPEN_BEFORE,
    }
