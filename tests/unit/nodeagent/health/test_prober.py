"""The prober against real servers on loopback, well-behaved ones and others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from meshapi.resources import Resource, key_of
from meshapi.resources.traffic import HealthCheck
from meshapi.watch import Snapshot
from nodeagent.health import http, prober
from nodeagent.health.checks import Target
from nodeagent.health.prober import Prober, question
from nodeagent.state import NodeState, build
from tests.unit.nodeagent.desired.balancing import policy, service, workload

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HTTP = HealthCheck(protocol="HTTP", path="/healthz")
WEB = ("shop", "here")


@asynccontextmanager
async def serving(serve: Serve, host: str = "127.0.0.1") -> AsyncIterator[int]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(handle, host, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def ask(serve: Serve, check: HealthCheck = HTTP, host: str = "127.0.0.1") -> str:
    """What one question to such a server comes to; as the prober, it waits a second at most."""

    async def once() -> str:
        async with serving(serve, host) as port, asyncio.timeout(1):
            return await question(Target(WEB, host, port, check, host))

    return asyncio.run(once())


def answering(*pieces: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()

    return serve


async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


# -- one question ----------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_open_port_is_well(host: str) -> None:
    assert ask(silent, HealthCheck(), host) == ""
    assert ask(answering(b"HTTP/1.1 200 OK\r\n\r\n"), HTTP, host) == ""


def test_a_closed_port_is_not() -> None:
    async def once() -> str:
        async with serving(silent) as port:
            pass
        return await question(Target(WEB, "127.0.0.1", port, HealthCheck()))

    with pytest.raises(ConnectionRefusedError):
        asyncio.run(once())


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", ""),
        (b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\n\r\n", ""),  # not followed
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "status 404"),
        (b"HTTP/1.1 503 Busy\r\n\r\n", "status 503"),
        (b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 500 No\r\n\r\n", "status 500"),
    ],
)
def test_a_status_decides(answer: bytes, problem: str) -> None:
    assert ask(answering(answer)) == problem


def test_expected_statuses() -> None:
    picky = HealthCheck(protocol="HTTP", expected_statuses=("204", "400-404"))
    assert ask(answering(b"HTTP/1.1 404 Not Found\r\n\r\n"), picky) == ""
    assert ask(answering(b"HTTP/1.1 200 OK\r\n\r\n"), picky) == "status 200"


def test_the_path_and_host_that_are_asked() -> None:
    heard = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append((await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

    ask(listen, HealthCheck(protocol="HTTP", path="/live?x=1", host="web.shop"))
    assert heard[0][:2] == ["GET /live?x=1 HTTP/1.1", "Host: web.shop"]


def test_a_status_line_in_single_bytes() -> None:
    pieces = [bytes([byte]) for byte in b"HTTP/1.1 200 OK\r\n"]
    assert ask(answering(*pieces)) == ""


def test_huge_headers_and_an_endless_body_do_not_matter() -> None:
    async def gush(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-Filler: " + b"x" * 65_536 + b"\r\n")
            await writer.drain()

    assert ask(gush) == ""


@pytest.mark.parametrize(
    "answer",
    [b"SSH-2.0-x\r\n", b"\x00" * 100, b"HTTP/1.1 100 C\r\n" + b"x: y\r\n" * 9000, b""],
    ids=["another protocol", "zeros", "interim for ever", "nothing"],
)
def test_what_is_not_http(answer: bytes) -> None:
    with pytest.raises(http.AnswerError):
        ask(answering(answer))


def test_a_reset_is_an_error() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.transport.abort()

    with pytest.raises((ConnectionResetError, http.AnswerError)):
        ask(reset)


def test_silence_and_a_slow_drip_are_as_long_as_the_caller_allows() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"HTTP/1.1 100 Continue\r\nx: y\r\n\r\n"[:1])
            await writer.drain()
            await asyncio.sleep(0.2)

    for serve in (silent, drip):
        with pytest.raises((TimeoutError, http.AnswerError)):
            ask(serve)


# -- all of them -----------------------------------------------------------------------------------


def state(*resources: Resource) -> NodeState:
    objects = {key_of(o): o for o in resources}
    return build("n1", Snapshot(1, objects))


def checking(port: int, address: str = "127.0.0.1", **check: Any) -> NodeState:
    return state(
        service(ports=[{"port": 80, "targetPort": port}]),
        workload("here", "n1", address),
        policy(healthCheck={"intervalSeconds": 1, "unhealthyThreshold": 2, **check}),
    )


@asynccontextmanager
async def running(made: Prober) -> AsyncIterator[asyncio.Event]:
    changed = asyncio.Event()
    made.on_change = changed.set
    task = asyncio.create_task(made.run(), name="prober")
    try:
        async with asyncio.timeout(20):
            yield changed
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def test_it_follows_a_server_up_and_down() -> None:
    async def scenario() -> list[object]:
        seen: list[object] = []
        made = Prober()
        async with running(made) as changed:
            async with serving(silent) as port:
                seen.append(made.follow(checking(port)))
                while not any(asked.results["success"] for asked in made):
                    await asyncio.sleep(0.02)
                seen.append(dict(made.unhealthy))
            await changed.wait()
            seen.append(dict(made.unhealthy))
            changed.clear()

            async def back(r: asyncio.StreamReader, w: asyncio.StreamWriter) -> None:
                w.close()

            server = await asyncio.start_server(back, "127.0.0.1", port)
            await changed.wait()
            seen.append(dict(made.unhealthy))
            server.close()
        return [*seen, port]

    *seen, port = asyncio.run(scenario())
    assert seen == [{}, {}, {WEB: (port,)}, {}]


def test_the_first_answer_counts_by_itself_and_a_check_that_is_gone_leaves_nothing() -> None:
    async def scenario() -> None:
        async with serving(silent) as port:
            pass  # closed again
        made = Prober()
        async with running(made) as changed:
            made.follow(checking(port, unhealthyThreshold=100))
            await changed.wait()
            assert made.unhealthy == {WEB: (port,)}
            assert made.follow(state()) == {}
            assert list(made) == []

    asyncio.run(scenario())


def test_after_a_restart_it_begins_with_what_it_said_last() -> None:
    async def never(_: Target) -> str:
        await asyncio.sleep(3600)
        return ""

    web = service(ports=[{"port": 80, "targetPort": 8080}])
    known = state(
        web, workload("here", "n1", "127.0.0.1", unhealthy=(8080,)), policy(healthCheck={})
    )
    assert Prober(never).follow(known) == {WEB: (8080,)}


def test_one_that_never_answers_is_unhealthy_and_holds_up_nobody() -> None:
    async def some(target: Target) -> str:
        if target.workload[1] == "here":
            await asyncio.sleep(3600)
        return ""

    async def scenario() -> None:
        made = Prober(some)
        async with running(made) as changed:
            made.follow(
                state(
                    service(ports=[{"port": 80, "targetPort": 8080}]),
                    workload("here", "n1", "127.0.0.1"),
                    workload("there", "n1", "127.0.0.2"),
                    policy(healthCheck={"intervalSeconds": 1}),
                )
            )
            await changed.wait()
            assert made.unhealthy == {WEB: (8080,)}
            results = {a.wanted.target.workload[1]: dict(a.results) for a in made}
            assert set(results["here"]) == {"failure"}
            assert set(results["there"]) == {"success"}

    asyncio.run(scenario())


def test_not_too_many_at_once_and_all_of_them_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    under_way, most, asked = 0, 0, set()

    async def slow(target: Target) -> str:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        asked.add(target.port)
        await asyncio.sleep(0.1)
        under_way -= 1
        return ""

    async def scenario() -> None:
        made = Prober(slow)
        async with running(made):
            ports = [{"name": f"p{i}", "port": i, "targetPort": i} for i in range(1, 201)]
            made.follow(
                state(
                    service(ports=ports),
                    workload("here", "n1", "127.0.0.1"),
                    policy(healthCheck={}),
                )
            )
            while len(asked) < 200:
                await asyncio.sleep(0.02)

    monkeypatch.setattr(prober, "_AT_ONCE", 8)
    asyncio.run(scenario())
    assert most == 8


def test_the_first_questions_are_spread_over_a_second() -> None:
    made = Prober()
    ports = [{"name": f"p{i}", "port": i, "targetPort": i} for i in range(1, 101)]
    made.follow(
        state(service(ports=ports), workload("here", "n1", "127.0.0.1"), policy(healthCheck={}))
    )
    due = sorted(at for at, _, _ in made._due)
    assert due[-1] - due[0] > 0.5
