"""The whole server over real sockets: good clients, bad ones and slow ones."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from meshapi.endpoint import Endpoint
from meshapi.errors import HopliteError
from meshapi.wire import MeshSettings
from nodeagent.dns import server as module
from nodeagent.dns.server import DnsServer
from nodeagent.dns.upstreams import Upstreams
from nodeagent.state import NodeState
from tests.unit.nodeagent.dns.conftest import (
    Run,
    Upstream,
    free_endpoint,
    honest,
    silent,
    state_of,
)

WEB = "web.shop.svc.hoplite.local"
Make = Callable[..., Upstream]
Scene = Callable[..., Any]

MANY = "\n---\n".join(
    f"{{apiVersion: mesh.hoplite.io/v1alpha1, kind: Workload, metadata: {{name: w{i},"
    f" labels: {{app: many}}}}, spec: {{nodeName: n1, cgroup: c{i}, addresses: [10.1.0.{i}]}},"
    " status: {ready: true}}"
    for i in range(1, 200)
)
MANY += """
---
{apiVersion: v1, kind: Service, metadata: {name: many},
 spec: {selector: {app: many}, ports: [{port: 80}]}}
"""


@pytest.fixture(params=["127.0.0.1", "::1"])
def endpoint(request: pytest.FixtureRequest) -> Endpoint:
    return free_endpoint(request.param)


@pytest.fixture
def scene(run: Run[Any], endpoint: Endpoint, state: NodeState) -> Iterator[Scene]:
    """Runs a test's coroutine beside a server that listens and knows the mesh."""

    def play(work: Callable[[DnsServer], Coroutine[Any, Any, Any]], *upstreams: str) -> Any:
        async def played() -> Any:
            server = DnsServer("n1", (endpoint,), Upstreams(upstreams, (endpoint,)), ())
            server.follow(state)
            async with AsyncExitStack() as stack:
                await server.serve(stack)
                return await work(server)

        return run(played())

    yield play
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):  # all is closed again
        family = socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET
        with socket.socket(family, kind) as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind((endpoint.address, endpoint.port))


async def ask(
    endpoint: Endpoint, name: str = WEB, kind: str = "A", *, over_tcp: bool = False, **more: Any
) -> dns.message.Message:
    """Ask as any client does, off the server's thread."""
    message = dns.message.make_query(name, kind, **more)
    send = dns.query.tcp if over_tcp else dns.query.udp
    found: dns.message.Message = await asyncio.to_thread(
        send, message, endpoint.address, 5, port=endpoint.port
    )
    return found


def query(name: str = WEB, kind: str = "A") -> bytes:
    return dns.message.make_query(name, kind).to_wire()


def first(reply: dns.message.Message) -> str:
    return reply.answer[0][0].to_text() if reply.answer else dns.rcode.to_text(reply.rcode())


async def connect(endpoint: Endpoint) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(endpoint.address, endpoint.port)


def framed(wire: bytes) -> bytes:
    return len(wire).to_bytes(2, "big") + wire


async def received(reader: asyncio.StreamReader) -> dns.message.Message:
    size = int.from_bytes(await reader.readexactly(2), "big")
    return dns.message.from_wire(await reader.readexactly(size))


async def ended(reader: asyncio.StreamReader) -> bool:
    """Waits until the server has closed, in whichever way, without having said anything."""
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


# -- good clients ----------------------------------------------------------------------------------


@pytest.mark.parametrize("over_tcp", [False, True])
def test_names_of_the_mesh(scene: Scene, endpoint: Endpoint, over_tcp: bool) -> None:
    async def work(server: DnsServer) -> None:
        assert first(await ask(endpoint, over_tcp=over_tcp)) == "10.96.0.5"
        assert first(await ask(endpoint, WEB, "AAAA", over_tcp=over_tcp)) == "fd00:96::5"
        nosuch = await ask(endpoint, "nosuch.hoplite.local", over_tcp=over_tcp)
        assert nosuch.rcode() == dns.rcode.NXDOMAIN
        assert server.counters.queries["zone"] == 3

    scene(work)


def test_what_is_too_long_for_a_datagram_is_had_over_tcp(scene: Scene, endpoint: Endpoint) -> None:
    async def work(server: DnsServer) -> None:
        server.follow(state_of(MANY))
        cut = await ask(endpoint, "many.default")
        assert cut.flags & dns.flags.TC
        whole = await ask(endpoint, "many.default", over_tcp=True)
        assert len(whole.answer[0]) == 199

    scene(work)


def test_another_state_is_answered_from_at_once(
    scene: Scene, endpoint: Endpoint, state: NodeState
) -> None:
    async def work(server: DnsServer) -> None:
        services = {n: s for n, s in state.services.items() if n != ("shop", "web")}
        server.follow(dataclasses.replace(state, revision=8, services=services))
        assert (await ask(endpoint)).rcode() == dns.rcode.NXDOMAIN
        server.follow(dataclasses.replace(state, mesh=MeshSettings(domain="mesh.example")))
        assert first(await ask(endpoint, "web.shop.svc.mesh.example")) == "10.96.0.5"
        assert (await ask(endpoint)).rcode() == dns.rcode.SERVFAIL, "somebody else's, and none is"

    scene(work)


def test_other_names_over_udp(scene: Scene, endpoint: Endpoint, upstream: Make) -> None:
    other = upstream(honest())

    async def work(server: DnsServer) -> None:
        assert first(await ask(endpoint, "example.org")) == "192.0.2.1"
        assert server.counters.queries["forwarded"] == 1
        assert sum(server.counters.buckets) == 1

    scene(work, str(other.endpoint))
    assert len(other.heard) == 1


def test_other_names_over_tcp(scene: Scene, endpoint: Endpoint, upstream: Make) -> None:
    other = upstream(lambda wire: [framed(honest()(wire)[0])], tcp=True)

    async def work(server: DnsServer) -> None:
        assert first(await ask(endpoint, "example.org", over_tcp=True)) == "192.0.2.1"

    scene(work, str(other.endpoint))


def test_an_upstreams_truncated_answer_is_handed_on(
    scene: Scene, endpoint: Endpoint, upstream: Make
) -> None:
    def cut(wire: bytes) -> list[bytes]:
        reply = dns.message.make_response(dns.message.from_wire(wire))
        reply.flags |= dns.flags.TC
        return [reply.to_wire()]

    other = upstream(cut)

    async def work(_: DnsServer) -> None:
        assert (await ask(endpoint, "example.org")).flags & dns.flags.TC

    scene(work, str(other.endpoint))


def test_names_of_the_mesh_are_told_to_nobody(
    scene: Scene, endpoint: Endpoint, upstream: Make
) -> None:
    other = upstream(honest())

    async def work(server: DnsServer) -> None:
        for name in (
            "nosuch.shop.svc.hoplite.local",
            "nosuch.hoplite.local",
            "a.cluster.local",
            "nosuch.shop.svc",
            "web.shop",
            "web",
        ):
            await ask(endpoint, name)
        await ask(endpoint, "5.0.96.10.in-addr.arpa", "PTR")
        await ask(endpoint, "11.1.244.10.in-addr.arpa", "PTR")

    scene(work, str(other.endpoint))
    assert other.heard == []


def test_without_upstreams_other_names_fail_at_once(scene: Scene, endpoint: Endpoint) -> None:
    async def work(server: DnsServer) -> None:
        for over_tcp in (False, True):
            reply = await ask(endpoint, "example.org", over_tcp=over_tcp)
            assert reply.rcode() == dns.rcode.SERVFAIL
        assert server.counters.queries["failed"] == 2

    scene(work)


def test_several_queries_on_one_connection_are_answered_in_their_order(
    scene: Scene, endpoint: Endpoint, upstream: Make
) -> None:
    other = upstream(lambda wire: [framed(honest()(wire)[0])], tcp=True)

    async def work(_: DnsServer) -> None:
        reader, writer = await connect(endpoint)
        queries = [query(name) for name in (WEB, "example.org", "four.shop")]
        for wire in queries:
            writer.write(framed(wire))
        writer.write_eof()
        replies = [await received(reader) for _ in queries]
        assert [first(r) for r in replies] == ["10.96.0.5", "192.0.2.1", "10.96.0.6"]
        assert [r.id.to_bytes(2, "big") for r in replies] == [q[:2] for q in queries]
        assert await reader.read() == b""
        writer.close()

    scene(work, str(other.endpoint))


# -- bad clients -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\0", id="half a length"),
        pytest.param(b"\0\0", id="length 0"),
        pytest.param(b"\0\5short", id="no header"),
        pytest.param(b"\xff\xff" + b"x" * 5000, id="a huge length"),
        pytest.param(b"\1\0half", id="half a message"),
        pytest.param(framed(b"\0\0\x80\0" + b"\0" * 8), id="an answer"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="HTTP"),
    ],
)
def test_a_stream_that_is_no_query_is_closed(scene: Scene, endpoint: Endpoint, sent: bytes) -> None:
    async def work(server: DnsServer) -> None:
        reader, writer = await connect(endpoint)
        writer.write(sent)
        writer.write_eof()
        assert await ended(reader)
        writer.close()
        assert first(await ask(endpoint)) == "10.96.0.5"
        assert server.dump()["connections"] == 0

    scene(work)


def test_a_refusal_over_tcp_leaves_the_connection_open(scene: Scene, endpoint: Endpoint) -> None:
    async def work(_: DnsServer) -> None:
        reader, writer = await connect(endpoint)
        writer.write(framed(query("hoplite.local", "AXFR")) + framed(query()))
        assert (await received(reader)).rcode() == dns.rcode.REFUSED
        assert first(await received(reader)) == "10.96.0.5"
        writer.close()

    scene(work)


@pytest.mark.parametrize("sent", [b"\0\1", b""])
def test_a_slow_client_is_let_go(
    scene: Scene, endpoint: Endpoint, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_IDLE", 0.1)

    async def work(_: DnsServer) -> None:
        reader, writer = await connect(endpoint)
        writer.write(sent)
        assert await ended(reader)
        writer.close()

    scene(work)


def test_a_client_that_never_has_enough_is_let_go(
    scene: Scene, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LIFETIME", 0.3)

    async def work(server: DnsServer) -> None:
        reader, writer = await connect(endpoint)
        count = 0
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            while True:
                writer.write(framed(query()))
                await received(reader)
                count += 1
                await asyncio.sleep(0.01)
        assert count > 1
        writer.close()

    scene(work)


def test_a_client_that_takes_no_answers_is_let_go(
    scene: Scene, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_IDLE", 0.3)

    async def work(server: DnsServer) -> None:
        server.follow(state_of(MANY))
        family = socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as greedy:
            greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            greedy.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)  # buffers fill sooner
            greedy.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(greedy, (endpoint.address, endpoint.port))
            queries = framed(query("many.default")) * 100
            with pytest.raises(ConnectionError):
                while True:
                    async with asyncio.timeout(30):
                        await loop.sock_sendall(greedy, queries)

    scene(work)


def test_one_client_cannot_have_all_connections(
    scene: Scene, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_OF_ONE", 3)

    async def work(server: DnsServer) -> None:
        kept = [await connect(endpoint) for _ in range(3)]
        for _, writer in kept:
            writer.write(framed(query()))
        for reader, _ in kept:
            assert first(await received(reader)) == "10.96.0.5"
        assert server.dump()["connections"] == 3
        reader, writer = await connect(endpoint)
        assert await ended(reader)
        for _, each in kept:
            each.close()
        while server.dump()["connections"]:
            await asyncio.sleep(0.01)
        assert first(await ask(endpoint, over_tcp=True)) == "10.96.0.5"

    scene(work)


def test_datagrams_that_are_no_queries_get_no_answer(scene: Scene, endpoint: Endpoint) -> None:
    async def work(server: DnsServer) -> None:
        family = socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as client:
            client.connect((endpoint.address, endpoint.port))
            reply = dns.message.make_response(dns.message.from_wire(query())).to_wire()
            for wire in (b"", b"x", reply, b"\xff" * 9000):
                client.send(wire)
            client.setblocking(False)
            assert first(await ask(endpoint)) == "10.96.0.5"
            with pytest.raises(BlockingIOError):
                client.recv(100)

    scene(work)


def test_more_than_may_be_in_flight_fails_at_once(
    scene: Scene, endpoint: Endpoint, upstream: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeagent.dns.forward.MOST_OF_ONE", 4)
    quiet = upstream(silent)

    async def work(server: DnsServer) -> None:
        family = socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as client:
            client.connect((endpoint.address, endpoint.port))
            for _ in range(4):
                client.send(query("example.org"))
            while server.dump()["inFlight"] < 4:
                await asyncio.sleep(0.01)
            assert (await ask(endpoint, "example.org")).rcode() == dns.rcode.SERVFAIL
            assert first(await ask(endpoint)) == "10.96.0.5"

    scene(work, str(quiet.endpoint))


# -- the rest --------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_one_line(run: Run[Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = Endpoint("127.0.0.1", taken.getsockname()[1])

        async def work() -> None:
            async with AsyncExitStack() as stack:
                await DnsServer("n1", (place,), Upstreams((), ()), ()).serve(stack)

        with pytest.raises(HopliteError) as caught:
            run(work())
    assert str(caught.value) == (
        f"dnsListen: {place}: cannot listen: Address already in use; "
        "stop what listens there, or set dnsListen: [] to leave names to it"
    )


def test_without_an_address_to_listen_on_nothing_is_done(run: Run[Any]) -> None:
    async def work() -> None:
        async with AsyncExitStack() as stack:
            server = DnsServer("n1", (), Upstreams((), ()), ())
            await server.serve(stack)
            assert server.dump()["listen"] == []

    run(work())


def test_what_operators_see(scene: Scene, endpoint: Endpoint, upstream: Make) -> None:
    other = upstream(honest())

    async def work(server: DnsServer) -> None:
        await ask(endpoint)
        await ask(endpoint, "example.org")
        await ask(endpoint, WEB, "ANY")
        dump = server.dump()
        assert dump["domain"] == "hoplite.local"
        assert (dump["revision"], dump["services"]) == (7, 4)
        assert dump["listen"] == [str(endpoint)]
        assert dump["upstreams"] == [str(other.endpoint)]
        assert dump["queries"] == {"zone": 1, "forwarded": 1, "refused": 1, "failed": 0}
        registry = CollectorRegistry()
        registry.register(server.counters)
        text = generate_latest(registry).decode()
        assert 'hoplite_dns_queries_total{answer="forwarded"} 1.0' in text
        assert "hoplite_dns_forward_seconds_count 1.0" in text
        assert 'hoplite_dns_forward_seconds_bucket{le="+Inf"} 1.0' in text

    scene(work, str(other.endpoint))
