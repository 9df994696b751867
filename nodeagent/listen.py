"""Serves an aiohttp application on a unix socket or a port, until the stack unwinds."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from pathlib import Path

from aiohttp import web

from meshapi.errors import HopliteError


async def on_unix(stack: AsyncExitStack, app: web.Application, path: Path, owner: int) -> None:
    """Listen on ``path``, which only user ``owner`` (and root) can open."""
    runner = await _runner(stack, app)
    _forget(path)
    before = os.umask(0o177)
    try:
        await web.UnixSite(runner, str(path)).start()
    finally:
        os.umask(before)
    os.chown(path, owner, -1)
    stack.callback(_forget, path)


async def on_port(stack: AsyncExitStack, app: web.Application, listen: str, setting: str) -> None:
    """Listen on ``host:port``, the value of ``setting``."""
    host, _, port = listen.rpartition(":")
    runner = await _runner(stack, app)
    try:
        await web.TCPSite(runner, host.strip("[]"), int(port)).start()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not host:port"
        raise HopliteError(
            f"cannot listen: {reason}", where=f"{setting}: {listen}", fix="give a free host:port"
        ) from error


def _forget(path: Path) -> None:
    path.unlink(missing_ok=True)


async def _runner(stack: AsyncExitStack, app: web.Application) -> web.AppRunner:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    return runner
