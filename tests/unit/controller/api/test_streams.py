"""Streams over real sockets: backpressure, stalled readers, replacement, shutdown."""

import asyncio
import contextlib
import socket

import aiohttp
from aiohttp import web

from controller.api.streams import Streams


@contextlib.asynccontextmanager
async def served(streams, produce, owner=""):
    """A server whose one endpoint streams what ``produce`` yields; its port is handed out."""

    async def handler(request):
        async with streams.open(request, "feed", owner) as stream:
            async for data in produce():
                await stream.write(data)
        return stream.response

    application = web.Application()
    application.router.add_get("/", handler)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    listening = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listening).start()
    try:
        yield listening.getsockname()[1]
    finally:
        await runner.cleanup()


async def endless():
    while True:
        yield b"x" * 65536


async def quiet():
    yield b"hello\n"
    await asyncio.sleep(3600)


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


def test_a_stalled_reader_is_disconnected_with_bounded_memory():
    written = 0

    async def counted():
        nonlocal written
        async for data in endless():
            written += len(data)
            yield data

    async def scenario():
        streams = Streams(stall=0.3)
        async with served(streams, counted) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(lambda: streams.counts() == {"feed": 1})
            await until(lambda: streams.counts() == {})
            assert written < 32 * 1024 * 1024  # what kernel buffers take, no more
            with contextlib.suppress(ConnectionError):
                while await reader.read(65536):
                    pass
            writer.close()

    asyncio.run(scenario())


def test_a_slow_reader_that_keeps_reading_is_kept():
    async def scenario():
        streams = Streams(stall=0.5)
        async with served(streams, endless) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            for _ in range(15):
                await reader.read(1 << 21)
                await asyncio.sleep(0.1)
            assert streams.counts() == {"feed": 1}
            writer.close()
            await until(lambda: streams.counts() == {})

    asyncio.run(scenario())


def test_an_owners_newer_stream_ends_the_older():
    async def scenario():
        streams = Streams()
        async with served(streams, quiet, owner="n1/agent") as port, aiohttp.ClientSession() as s:
            first = await s.get(f"http://127.0.0.1:{port}/")
            assert await first.content.readline() == b"hello\n"
            second = await s.get(f"http://127.0.0.1:{port}/")
            assert await second.content.readline() == b"hello\n"
            with contextlib.suppress(aiohttp.ClientError):
                assert await asyncio.wait_for(first.content.readline(), 5) == b""
            assert streams.counts() == {"feed": 1}

    asyncio.run(scenario())


def test_closing_ends_every_stream():
    async def scenario():
        streams = Streams()
        async with served(streams, quiet) as port, aiohttp.ClientSession() as session:
            for _ in range(3):
                await session.get(f"http://127.0.0.1:{port}/")
            assert streams.counts() == {"feed": 3}
            await streams.close()
            assert streams.counts() == {}

    asyncio.run(scenario())


def test_a_failure_after_the_answer_began_ends_the_connection(caplog):
    async def broken():
        yield b"hello\n"
        raise ValueError("mistake")

    async def scenario():
        async with served(Streams(), broken) as port, aiohttp.ClientSession() as session:
            with contextlib.suppress(aiohttp.ClientError):
                response = await session.get(f"http://127.0.0.1:{port}/")
                await response.read()

    asyncio.run(scenario())
    assert "stream failed" in caplog.text
