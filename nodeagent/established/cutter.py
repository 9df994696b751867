"""Ends connections that policy refuses now: at once, after a while, or never, as policies wish."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from meshapi.errors import HopliteError
from meshapi.resources import Key
from meshapi.resources.options import Drain, Keep
from nodeagent import netns
from nodeagent.datapath import sockdiag
from nodeagent.datapath.libbpf import KernelMap
from nodeagent.desired.compiler import Compiler
from nodeagent.established.judge import Judge
from nodeagent.established.sentence import established, policies_of
from nodeagent.established.strangers import Strangers
from nodeagent.layout import FLOW, LEARNT, DatagramFlow
from nodeagent.policy.decisions import Decision
from nodeagent.state import Name

_log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
# When to look again after a change: a handshake that was let in before it may end after it, as long
# as the answer to its SYN is sent again (63 s, or what net.ipv4.tcp_synack_retries makes of it).
_HANDSHAKES_SECONDS = (1.0, 3.0, 7.0, 15.0, 31.0, 65.0, 130.0)
_TCP = 6


@dataclass(frozen=True)
class _Doomed:
    """A connection that is to end: its socket's cookie, what was known of it, and why."""

    cookie: int
    flow: DatagramFlow
    why: Decision


class Cutter:
    """Looks at the open connections whenever policy, or whose they are, may have changed.

    ``compiler`` gives desired state as it is in force, ``cgroups`` the workloads' cgroup ids.
    """

    def __init__(
        self,
        compiler: Callable[[], Compiler],
        cgroups: Callable[[], dict[Name, tuple[int, int]]],
        sockets: KernelMap,
        learnt: KernelMap,
        root: Path,
        *,
        on_cut: Callable[[], None],
    ) -> None:
        self._compiler = compiler
        self._cgroups = cgroups
        self._sockets = sockets
        self._learnt = learnt
        self._root = root
        self._on_cut = on_cut
        self._wake = asyncio.Event()
        self._wake.set()
        self._strangers = Strangers(sockets)
        self._draining: dict[int, float] = {}  # cookie -> deadline
        self._looks: list[float] = []  # when to look for handshakes of before the last change
        self.cut: Counter[tuple[Key, str]] = Counter()  # connections ended, by policy and its uid

    def look(self) -> None:
        """Policy, or who somebody is, may have changed."""
        self._wake.set()

    async def run(self) -> None:
        """Look whenever told to, and when connections have drained long enough."""
        while True:
            try:
                async with asyncio.timeout(self._until_deadline()):
                    await self._wake.wait()
            except TimeoutError:
                pass  # somebody's time is up
            now = time.monotonic()
            if self._wake.is_set():
                self._looks = [now + seconds for seconds in _HANDSHAKES_SECONDS]
            self._looks = [when for when in self._looks if when > now]
            self._wake.clear()
            await self._strangers.adopt(self._compiler(), self._paths())
            if not await self._end(self._judge()):
                await asyncio.sleep(_RETRY_SECONDS)
                self._wake.set()

    def _until_deadline(self) -> float | None:
        deadlines = [*self._draining.values(), *self._strangers.deadlines, *self._looks]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _judge(self) -> list[_Doomed]:
        """The connections whose end has come."""
        compiler, now = self._compiler(), time.monotonic()
        if not compiler.tables["policy"] and not compiler.tables["blocked"]:
            self._draining = {}
            return []
        judge = Judge(compiler, self._patterns)
        doomed, draining = [], {}
        for key, value in self._sockets.items():
            flow = DatagramFlow(*FLOW.unpack(value))
            if flow.protocol != _TCP:
                continue  # datagrams are asked about one by one
            decision = judge.decide(flow)
            if decision.allows:
                continue
            cookie = int.from_bytes(key, "little")
            wish = established(compiler.state, decision.rule)
            if isinstance(wish, Keep):
                continue
            if isinstance(wish, Drain):
                deadline = self._draining.get(cookie, now + wish.seconds)
                if deadline > now:
                    draining[cookie] = deadline
                    continue
            doomed.append(_Doomed(cookie, flow, decision))
        self._draining = draining
        return doomed

    def _patterns(self, address: bytes) -> tuple[int, ...]:
        raw = self._learnt.get(address)
        return LEARNT.unpack(raw)[1:] if raw is not None else ()

    async def _end(self, doomed: list[_Doomed]) -> bool:
        """End connections; False if some could not be found that may be there still.

        Their records are marked first, so that the kernel tells why when they close. One of which
        both ends are here counts once.
        """
        by_cgroup: dict[int, dict[int, Decision]] = defaultdict(dict)
        for one in doomed:
            if self._mark(one):
                by_cgroup[one.flow.cgroup][one.cookie] = one.why
        paths = self._paths()
        ended: dict[frozenset[tuple[bytes, bytes]], Decision] = {}
        missed = 0
        for cgroup, connections in by_cgroup.items():
            path = paths.get(cgroup)
            found = await asyncio.to_thread(_destroy, path, set(connections)) if path else []
            missed += len(connections) - len({socket.cookie for socket in found})
            for socket in found:
                ended.setdefault(socket.ends, connections[socket.cookie])
        by_policy = Counter(
            key for why in ended.values() if why.rule is not None for key in policies_of(why.rule)
        )
        for key, number in by_policy.items():
            policy = self._compiler().state.find(key)
            self.cut[key, policy.metadata.uid if policy is not None else ""] += number
        if ended:
            self._on_cut()
            named = {str(key): number for key, number in by_policy.items()}
            _log.info("connections cut", extra={"policies": named, "not_found": missed})
        return not missed

    def _mark(self, one: _Doomed) -> bool:
        """Note in the connection's record why it ends; False if it has ended by itself."""
        rule = self._compiler().rule_number(one.why.rule) if one.why.rule else 0
        marked = one.flow._replace(rule=rule, cut=one.why.reason)
        return self._sockets.replace(one.cookie.to_bytes(8, "little"), FLOW.pack(*marked))

    def _paths(self) -> dict[int, Path]:
        """Where each enrolled cgroup is, by its id."""
        compiler = self._compiler()
        workloads, enrolled = compiler.state.workloads, compiler.tables["workloads"]
        return {
            number: self._root / workloads[name].spec.cgroup
            for name, (number, _) in self._cgroups().items()
            if name in workloads and number.to_bytes(8, "little") in enrolled
        }


def _destroy(cgroup: Path, cookies: set[int]) -> list[sockdiag.Connection]:
    """End connections of a workload, wherever its processes have their network; those found."""
    found: list[sockdiag.Connection] = []
    try:
        for fd in netns.of_cgroup(cgroup):
            try:
                found += netns.within(fd, lambda: sockdiag.destroy(cookies))
            finally:
                os.close(fd)
    except (HopliteError, OSError) as error:
        _log.error("connections could not be cut", extra={"error": str(error)})
    return found
