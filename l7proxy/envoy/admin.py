"""Client of Envoy's admin interface on its unix socket."""

from __future__ import annotations

import re
import socket
import struct
from pathlib import Path
from typing import Any

import msgspec

from l7proxy import unixhttp
from meshapi.errors import UnavailableError

_ACTIVE_REQUESTS = r"^http\..*\.downstream_rq_active$"
_ACTIVE_CONNECTIONS = r"^http\..*\.downstream_cx_active$"


class ServerInfo(msgspec.Struct, frozen=True):
    """Who answers at the admin socket (``/server_info``)."""

    state: str
    config_path: str
    restart_epoch: int


class EnvoyAdmin:
    """What we ask of Envoy, whichever process it is by now."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def owner(self) -> int | None:
        """The process that listens on the socket, or None if nobody does."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            try:
                connection.connect(str(self._path))
            except OSError:
                return None
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid, _, _ = struct.unpack("3i", credentials)
        return int(pid)

    async def server_info(self) -> ServerInfo:
        value = msgspec.json.decode(await self._call("GET", "/server_info"))
        options: dict[str, Any] = value["command_line_options"]
        return ServerInfo(value["state"], options["config_path"], options["restart_epoch"])

    async def live(self) -> bool:
        """Whether Envoy's workers accept connections."""
        try:
            return (await self._call("GET", "/ready")).strip() == b"LIVE"
        except UnavailableError:
            return False

    async def active_requests(self) -> int:
        return await self._sum(_ACTIVE_REQUESTS)

    async def active_connections(self) -> int:
        return await self._sum(_ACTIVE_CONNECTIONS)

    async def close_politely(self) -> None:
        """From now on every response says that its connection will be closed."""
        await self._call("POST", "/healthcheck/fail")

    async def reopen_logs(self) -> None:
        await self._call("POST", "/reopen_logs")

    async def prometheus(self) -> bytes:
        return await self._call("GET", "/stats/prometheus")

    async def config_dump(self) -> bytes:
        return await self._call("GET", "/config_dump?include_eds")

    async def _sum(self, pattern: str) -> int:
        text = (await self._call("GET", f"/stats?filter={pattern}")).decode()
        return sum(int(value) for value in re.findall(r": (\d+)$", text, re.MULTILINE))

    async def _call(self, method: str, path: str) -> bytes:
        status, body = await unixhttp.call(self._path, method, path)
        if status not in (200, 503):  # 503: Envoy is not ready, which is an answer as well
            raise UnavailableError(
                f"Envoy answers {path} with HTTP {status}", where=str(self._path)
            )
        return body
