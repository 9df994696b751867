"""Asks upstream resolvers, with bounds: so many at a time, so long, and only answers that fit."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, islice

import dns.rcode

from meshapi.endpoint import Endpoint
from nodeagent.dns import message
from nodeagent.dns.message import Question

MOST, MOST_OF_ONE = 256, 64  # queries in flight: of all, of one source
PATIENCE = 1.5  # seconds before the next upstream is asked as well
DEADLINE = 4.5  # seconds for all of them; a stub resolver gives up after 5
_LONGEST = 65535
_NO_USE = (dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP)  # another upstream may know


class Forwarder:
    """Sends queries on. Each has a socket of its own, so a port as random as its id."""

    def __init__(self, upstreams: Callable[[], tuple[Endpoint, ...]]) -> None:
        self._upstreams = upstreams
        self._preferred: Endpoint | None = None  # the one that answered last
        self._sources: Counter[str] = Counter()

    @property
    def in_flight(self) -> int:
        return self._sources.total()

    def full(self, source: str) -> bool:
        """Whether one more query of ``source`` would be too many."""
        return self.in_flight >= MOST or self._sources[source] >= MOST_OF_ONE

    async def ask(self, question: Question, source: str, *, over_tcp: bool) -> bytes | None:
        """The reply as the asker must see it; None if there is none to be had in time."""
        if self.full(source):
            return None
        with self._counted(source):
            return await self._ask_all(question, over_tcp=over_tcp)

    async def _ask_all(self, question: Question, *, over_tcp: bool) -> bytes | None:
        """Ask one upstream after the other; the first useful answer of any of them counts."""
        asking: dict[asyncio.Task[bytes | None], Endpoint] = {}
        order, spent = self._order(), set[Endpoint]()
        waiting = (u for u in chain(order, order) if u not in spent)  # twice: datagrams get lost
        second_best: bytes | None = None
        ask = _over_tcp if over_tcp else _over_udp
        loop = asyncio.get_running_loop()
        end = loop.time() + DEADLINE
        try:
            while (left := end - loop.time()) > 0:
                for upstream in islice(waiting, 1):
                    task = asyncio.create_task(ask(question, upstream), name=f"dns {upstream}")
                    asking[task] = upstream
                if not asking:
                    break
                patience = min(left, PATIENCE)
                done, _ = await asyncio.wait(
                    asking, timeout=patience, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    upstream, reply = asking.pop(task), task.result()
                    spent.add(upstream)
                    if reply is not None and message.rcode_of(reply) not in _NO_USE:
                        self._preferred = upstream
                        return reply
                    second_best = reply or second_best
        finally:
            for task in asking:
                task.cancel()
        return second_best

    def _order(self) -> list[Endpoint]:
        """The configured order, but first the one that answered last."""
        return sorted(self._upstreams(), key=lambda upstream: upstream != self._preferred)

    @contextmanager
    def _counted(self, source: str) -> Iterator[None]:
        self._sources[source] += 1
        try:
            yield
        finally:
            self._sources[source] -= 1
            if not self._sources[source]:
                del self._sources[source]


async def _over_udp(question: Question, upstream: Endpoint) -> bytes | None:
    """Wait for the answer that fits, whatever else arrives; None if nobody listens there."""
    number = secrets.randbelow(1 << 16)
    loop = asyncio.get_running_loop()
    try:
        with _socket(upstream, socket.SOCK_DGRAM) as (endpoint, address):
            endpoint.connect(address)  # the kernel lets nobody else's datagrams through
            endpoint.send(message.query_from(question, number))
            while True:
                datagram = await loop.sock_recv(endpoint, _LONGEST)
                reply = message.reply_to(question, number, datagram)
                if reply is not None:
                    return reply
    except OSError:
        return None


async def _over_tcp(question: Question, upstream: Endpoint) -> bytes | None:
    number = secrets.randbelow(1 << 16)
    query = message.query_from(question, number)
    loop = asyncio.get_running_loop()
    try:
        with _socket(upstream, socket.SOCK_STREAM) as (endpoint, address):
            await loop.sock_connect(endpoint, address)
            await loop.sock_sendall(endpoint, len(query).to_bytes(2, "big") + query)
            size = int.from_bytes(await _exactly(endpoint, 2), "big")
            return message.reply_to(question, number, await _exactly(endpoint, size))
    except (OSError, EOFError):
        return None


async def _exactly(endpoint: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    found = b""
    while len(found) < size:
        more = await loop.sock_recv(endpoint, size - len(found))
        if not more:
            raise EOFError
        found += more
    return found


@contextmanager
def _socket(upstream: Endpoint, kind: int) -> Iterator[tuple[socket.socket, tuple[object, ...]]]:
    """A socket for an upstream, and its address as the kernel takes it (with a scope's number)."""
    family, _, _, _, address = socket.getaddrinfo(
        upstream.address, upstream.port, type=kind, flags=socket.AI_NUMERICHOST
    )[0]
    with socket.socket(family, kind | socket.SOCK_NONBLOCK) as endpoint:
        yield endpoint, address
