"""Keeps Envoy's logs below a size: one former file is kept beside each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path

from l7proxy.envoy.admin import EnvoyAdmin
from meshapi.errors import UnavailableError

log = logging.getLogger(__name__)

_LOOK_SECONDS = 5.0


class LogRotation:
    """Renames a log that has grown to ``max_bytes`` and has Envoy open a new one."""

    def __init__(self, paths: Iterable[Path], max_bytes: int, admin: EnvoyAdmin) -> None:
        self._paths = list(paths)
        self._max_bytes = max_bytes
        self._admin = admin

    async def run(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Rotate what is due."""
        due = [p for p in self._paths if p.exists() and p.stat().st_size >= self._max_bytes]
        for path in due:
            path.replace(path.with_name(path.name + ".1"))
        if due:
            try:
                await self._admin.reopen_logs()
            except UnavailableError as error:
                log.info("Envoy opens its logs when it starts", extra={"reason": str(error)})
