"""One HTTP call to a process that listens on a unix socket."""

from __future__ import annotations

from pathlib import Path

import aiohttp

from meshapi.errors import UnavailableError

_TIMEOUT = aiohttp.ClientTimeout(total=10)


async def call(
    socket: Path, method: str, path: str, body: bytes | None = None
) -> tuple[int, bytes]:
    """Status and body of the answer. Each call connects anew: another process may be there.

    UnavailableError if nobody answers.
    """
    connector = aiohttp.UnixConnector(str(socket), force_close=True)
    headers = {"Content-Type": "application/json"} if body is not None else {}
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session,
            session.request(method, f"http://unix{path}", data=body, headers=headers) as response,
        ):
            return response.status, await response.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        detail = str(error) or type(error).__name__
        raise UnavailableError(
            f"no answer to {method} {path}: {detail}", where=str(socket)
        ) from error
