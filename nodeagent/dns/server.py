"""Listens for queries over UDP and TCP, and carries out what ``decide`` says."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Collection, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import dns.rcode

from meshapi.endpoint import Endpoint
from meshapi.errors import HopliteError
from nodeagent.dns import message
from nodeagent.dns.counters import Counters
from nodeagent.dns.decide import Forward, Reply, decide
from nodeagent.dns.forward import Forwarder
from nodeagent.dns.upstreams import Upstreams
from nodeagent.dns.zone import Zone, labels
from nodeagent.state import NodeState

_log = logging.getLogger(__name__)

_TURN = 0.005  # seconds that datagrams are taken in a row, before others have their turn
_MOST_CONNECTIONS, _MOST_OF_ONE = 64, 16  # TCP: of all, of one source
_IDLE, _LIFETIME = 5.0, 60.0  # seconds that a TCP client may be quiet, and stay


class DnsServer:
    """The node's DNS. It knows a mesh from the first ``follow`` on."""

    def __init__(
        self,
        node: str,
        listen: Collection[Endpoint],
        upstreams: Upstreams,
        addresses: Collection[str],
    ) -> None:
        """``addresses`` are the node's own: its processes may have any name looked up."""
        self.counters = Counters()
        self._listen = listen
        self._own = frozenset(addresses) | {e.address for e in listen}
        self._upstreams = upstreams
        self._forwarder = Forwarder(self._upstreams.current)
        self._zone = _zone(NodeState(node))
        self._tasks: set[asyncio.Task[Any]] = set()
        self._connections: Counter[str] = Counter()

    def follow(self, state: NodeState) -> None:
        """Answer from this state from now on."""
        self._zone = _zone(state)

    def dump(self) -> dict[str, Any]:
        """What the admin API shows."""
        zone = self._zone
        return {
            "domain": ".".join(zone.domain),
            "revision": zone.state.revision,
            "services": len(zone.state.services),
            "listen": [str(endpoint) for endpoint in self._listen],
            "upstreams": [str(endpoint) for endpoint in self._upstreams.current()],
            "queries": dict(self.counters.queries),
            "inFlight": self._forwarder.in_flight,
            "connections": self._connections.total(),
        }

    async def serve(self, stack: AsyncExitStack) -> None:
        """Listen until the stack unwinds."""
        stack.callback(self._cancel)
        loop = asyncio.get_running_loop()
        for endpoint in self._listen:
            try:
                datagrams = stack.enter_context(_datagrams(endpoint))
                stream = _stream(endpoint)
            except OSError as error:
                raise HopliteError(
                    f"cannot listen: {os.strerror(error.errno or 0)}",
                    where=f"dnsListen: {endpoint}",
                    fix="stop what listens there, or set dnsListen: [] to leave names to it",
                ) from error
            loop.add_reader(datagrams, self._take_datagrams, datagrams)
            stack.callback(loop.remove_reader, datagrams)
            server = await asyncio.start_server(
                self._converse, sock=stream, limit=message.LONGEST_QUERY
            )
            stack.callback(server.close)

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    # -- what every query comes to ---------------------------------------------------------------

    def _decide(self, wire: bytes, source: str, *, over_tcp: bool) -> Reply | Forward | None:
        decision = decide(self._zone, self._own, wire, source, over_tcp=over_tcp)
        if isinstance(decision, Forward) and self._forwarder.full(source):
            decision = _failed(decision)
        if isinstance(decision, Reply):
            self.counters.queries[decision.kind] += 1
        return decision

    async def _forward(self, forward: Forward, source: str, *, over_tcp: bool) -> Reply:
        began = time.monotonic()
        wire = await self._forwarder.ask(forward.question, source, over_tcp=over_tcp)
        if wire is None:
            reply = _failed(forward)
        else:
            reply = Reply(wire, "forwarded")
            self.counters.forwarded(time.monotonic() - began)
        self.counters.queries[reply.kind] += 1
        return reply

    # -- UDP -------------------------------------------------------------------------------------

    def _take_datagrams(self, endpoint: socket.socket) -> None:
        end = time.monotonic() + _TURN
        while time.monotonic() < end:
            try:
                wire, peer = endpoint.recvfrom(message.LONGEST_QUERY)
            except BlockingIOError:
                return
            except OSError:  # what an earlier answer came to; its asker is gone
                continue
            decision = self._decide(wire, _address(peer), over_tcp=False)
            if isinstance(decision, Reply):
                _send(endpoint, decision.wire, peer)
            elif decision is not None:
                self._start(self._forward_datagram(endpoint, decision, peer))

    async def _forward_datagram(self, endpoint: socket.socket, forward: Forward, peer: Any) -> None:
        reply = await self._forward(forward, _address(peer), over_tcp=False)
        _send(endpoint, reply.wire, peer)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="dns query")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- TCP -------------------------------------------------------------------------------------

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer a client's queries in their order, while it neither tarries nor crowds."""
        source = _address(writer.get_extra_info("peername"))
        task = asyncio.current_task()
        if task is None or self._crowded(source):
            writer.transport.abort()
            return
        self._connections[source] += 1
        self._tasks.add(task)
        writer.transport.set_write_buffer_limits(0)  # drain() waits until the client has taken all
        try:
            async with asyncio.timeout(_LIFETIME):
                while await self._exchange(reader, writer, source):
                    pass
        except (TimeoutError, EOFError, OSError):
            writer.transport.abort()
        finally:
            writer.close()
            self._tasks.discard(task)
            self._connections[source] -= 1
            if not self._connections[source]:
                del self._connections[source]

    def _crowded(self, source: str) -> bool:
        all_, its = self._connections.total(), self._connections[source]
        return all_ >= _MOST_CONNECTIONS or its >= _MOST_OF_ONE

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, source: str
    ) -> bool:
        """One query and its answer; False when there is no more to be said."""
        async with asyncio.timeout(_IDLE):
            size = int.from_bytes(await reader.readexactly(2), "big")
            if size > message.LONGEST_QUERY:
                return False
            wire = await reader.readexactly(size)
        decision = self._decide(wire, source, over_tcp=True)
        if decision is None:
            return False
        if isinstance(decision, Forward):
            decision = await self._forward(decision, source, over_tcp=True)
        writer.write(len(decision.wire).to_bytes(2, "big") + decision.wire)
        async with asyncio.timeout(_IDLE):
            await writer.drain()
        return True


def _failed(forward: Forward) -> Reply:
    return Reply(message.failure(forward.question, dns.rcode.SERVFAIL), "failed")


def _send(endpoint: socket.socket, wire: bytes, peer: Any) -> None:
    try:
        endpoint.sendto(wire, peer)
    except OSError as error:  # gone, or its queue is full; it will ask again
        _log.debug("answer not sent", extra={"peer": _address(peer), "error": str(error)})


def _address(peer: Any) -> str:
    """The address of a peer's name, without a scope."""
    address: str = peer[0]
    return address.partition("%")[0]


def _datagrams(endpoint: Endpoint) -> socket.socket:
    found = socket.socket(_family(endpoint), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        found.bind((endpoint.address, endpoint.port))
    except OSError:
        found.close()
        raise
    return found


def _stream(endpoint: Endpoint) -> socket.socket:
    return socket.create_server((endpoint.address, endpoint.port), family=_family(endpoint))


def _family(endpoint: Endpoint) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET


def _zone(state: NodeState) -> Zone:
    return Zone(state, labels(state.mesh.domain))
