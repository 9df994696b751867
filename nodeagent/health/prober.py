"""Asks the ports of this node's workloads, each at its own pace, and keeps what came of it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import random
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from nodeagent.health import checks, http
from nodeagent.health.checks import Target, Wanted
from nodeagent.health.thresholds import Health
from nodeagent.layout import version_of
from nodeagent.state import Name, NodeState

_log = logging.getLogger(__name__)

_AT_ONCE = 512  # questions under way at the same time
_FIRST_WITHIN = 1.0  # seconds over which first questions are spread
_BIND_ADDRESS_NO_PORT = 24  # of SOL_IP, Linux 4.2 (uapi/linux/in.h)

Ask = Callable[[Target], Awaitable[str]]


@dataclass
class Asked:
    """A target, its health, and how often it was asked with which result."""

    wanted: Wanted
    health: Health
    results: Counter[str] = field(default_factory=Counter)


class Prober:
    """``follow`` says what to ask, ``unhealthy`` is what was found, ``on_change`` hears of it."""

    def __init__(self, ask: Ask | None = None) -> None:
        self.unhealthy: dict[Name, tuple[int, ...]] = {}
        self.on_change: Callable[[], None] = lambda: None
        self._ask = ask or question
        self._asked: dict[Target, Asked] = {}
        self._due: list[tuple[float, int, Asked]] = []
        self._order = itertools.count()
        self._running = 0
        self._wake = asyncio.Event()

    def __iter__(self) -> Iterator[Asked]:
        return iter(self._asked.values())

    def follow(self, state: NodeState) -> dict[Name, tuple[int, ...]]:
        """Ask what a state wants asked; the unhealthy ports as far as they are known."""
        wanted = checks.wanted(state)
        if wanted.keys() != self._asked.keys():
            self._wake.set()
        asked = {}
        for target, one in wanted.items():
            known = self._asked.get(target)
            if known is None:
                known = Asked(one, _as_it_was_left(state, one))
                self._plan(known, random.uniform(0, _FIRST_WITHIN))  # noqa: S311 - only spreads
            known.wanted = one
            asked[target] = known
        self._asked = asked
        self._sum_up()
        return self.unhealthy

    async def run(self) -> None:
        """Ask for ever."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._wake.clear()
                for asked in self._next():
                    self._running += 1
                    name = f"health check of {'/'.join(asked.wanted.target.workload)}"
                    tasks.create_task(self._check(asked), name=name)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._until_due()):
                        await self._wake.wait()

    # -- when ------------------------------------------------------------------------------------

    def _plan(self, asked: Asked, seconds: float) -> None:
        heapq.heappush(self._due, (time.monotonic() + seconds, next(self._order), asked))

    def _next(self) -> Iterator[Asked]:
        """Those whose time has come, as long as not too many are under way."""
        while self._due and self._due[0][0] <= time.monotonic() and self._running < _AT_ONCE:
            _, _, asked = heapq.heappop(self._due)
            if self._current(asked):
                yield asked

    def _until_due(self) -> float | None:
        if not self._due or self._running >= _AT_ONCE:
            return None
        return max(0.0, self._due[0][0] - time.monotonic())

    def _current(self, asked: Asked) -> bool:
        return self._asked.get(asked.wanted.target) is asked

    # -- what ------------------------------------------------------------------------------------

    async def _check(self, asked: Asked) -> None:
        check, started = asked.wanted.target.check, time.monotonic()
        try:
            async with asyncio.timeout(check.timeout_seconds):
                problem = await self._ask(asked.wanted.target)
        except TimeoutError:
            problem = f"no answer within {check.timeout_seconds} s"
        except (OSError, http.AnswerError) as error:
            problem = str(error)
        finally:
            self._running -= 1
            self._wake.set()
        if not self._current(asked):
            return
        self._take(asked, problem)
        self._plan(asked, max(0.0, started + check.interval_seconds - time.monotonic()))

    def _take(self, asked: Asked, problem: str) -> None:
        before = asked.health
        asked.health = before.after(not problem, asked.wanted.target.check)
        asked.results["failure" if problem else "success"] += 1
        if asked.health.healthy == before.healthy:
            return
        target = asked.wanted.target
        _log.info(
            "health changed",
            extra={
                "workload": "/".join(target.workload),
                "port": target.port,
                "healthy": asked.health.healthy,
                "problem": problem,
            },
        )
        self._sum_up()
        self.on_change()

    def _sum_up(self) -> None:
        healthy = {target: asked.health.healthy for target, asked in self._asked.items()}
        self.unhealthy = checks.unhealthy((a.wanted for a in self._asked.values()), healthy)


async def question(target: Target) -> str:
    """Ask once: empty if all is well, otherwise what is wrong. The caller bounds the time."""
    with socket.socket(_family(target.address), socket.SOCK_STREAM) as end:
        end.setblocking(False)
        if target.source:
            end.setsockopt(socket.SOL_IP, _BIND_ADDRESS_NO_PORT, 1)
            end.bind((target.source, 0))
        loop = asyncio.get_running_loop()
        await loop.sock_connect(end, (target.address, target.port))
        if target.check.protocol == "TCP":
            return ""
        await loop.sock_sendall(end, http.request(target.check, target.address, target.port))
        code = await _status(end)
        _drain(end)
    if http.expected(code, target.check.expected_statuses):
        return ""
    return f"status {code}"


async def _status(end: socket.socket) -> int:
    received = b""
    while True:
        part = await asyncio.get_running_loop().sock_recv(end, http.MOST)
        if not part:
            raise http.AnswerError("it closed without an answer")
        received += part
        code = http.status(received)
        if code is not None:
            return code


def _drain(end: socket.socket) -> None:
    """Take what has come of the rest, so that the server of a small answer sees no reset."""
    left = http.MOST
    with suppress(OSError):
        while left > 0 and (part := end.recv(left)):
            left -= len(part)


def _as_it_was_left(state: NodeState, wanted: Wanted) -> Health:
    """After a restart of the agent: what the controller was told last."""
    workload = state.workloads[wanted.target.workload]
    return Health(healthy=not wanted.ports & set(workload.status.unhealthy_ports))


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if version_of(address) == 6 else socket.AF_INET
