"""Keeps one Envoy running while it is wanted, whoever started it.

An Envoy that outlived us is recognised by the name of its bootstrap file. The same one is adopted
as it is; another one hands its sockets over to a new Envoy (hot restart), drains and ends.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from l7proxy.envoy.admin import EnvoyAdmin
from l7proxy.envoy.launch import Launch
from l7proxy.envoy.process import EnvoyProcess
from meshapi.errors import UnavailableError

log = logging.getLogger(__name__)

_STEADY_SECONDS = 60.0  # an Envoy that lived so long is started again without delay
_LONGEST_PAUSE = 30.0
_POLL_SECONDS = 0.02  # while it starts (accepts yet?) and while it drains (requests left?)
_START_SECONDS = 5.0
_LAST_BYTES = 4096


class Supervisor:
    """``trouble`` says why Envoy does not run although it should; ``changed`` is called then."""

    def __init__(self, launch: Launch, admin: EnvoyAdmin, changed: Callable[[], None]) -> None:
        self.trouble = ""
        self.starts = 0
        self.adopted = False  # whether the running Envoy was started by a former l7proxy
        self._launch = launch
        self._admin = admin
        self._changed = changed
        self._wanted = asyncio.Event()
        self._process: EnvoyProcess | None = None
        self._former: tuple[EnvoyProcess, int] | None = None  # draining, and its restart epoch
        self._deaths = 0

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        """The process id of the Envoy that takes new connections, 0 if there is none."""
        return self._process.pid if self._process else 0

    async def adopt(self) -> None:
        """Take over the Envoy that a former l7proxy left, if there is one."""
        pid = self._admin.owner()
        if pid is None:
            return
        process = EnvoyProcess(pid)
        try:
            info = await self._admin.server_info()
        except UnavailableError as error:
            log.warning("an Envoy was left that does not answer", extra={"reason": str(error)})
            await process.stop()
            return
        if info.config_path == str(self._launch.config_path):
            log.info("adopted the Envoy that was left", extra={"pid": pid})
            self._process = process
            self.adopted = True
            self._wanted.set()
        elif info.state == "LIVE":
            log.info("replacing the Envoy that was left by hot restart", extra={"pid": pid})
            self._former = (process, info.restart_epoch)
            self.ensure()
        else:
            await process.stop()

    def ensure(self) -> None:
        """Want Envoy; it is started at once unless it runs or has just died."""
        if not self._wanted.is_set() and self._process is None:
            self._start()
        self._wanted.set()

    async def run(self) -> None:
        """Start Envoy again whenever it dies while it is wanted."""
        while True:
            await self._wanted.wait()
            process = self._process or self._start()
            began = time.monotonic()
            await process.ended.wait()
            if self._process is process:
                self._process = None
                await self._pause(time.monotonic() - began)

    async def accepting(self) -> None:
        """Wait until Envoy accepts connections; UnavailableError if it does not soon."""
        give_up = time.monotonic() + _START_SECONDS
        while not await self._admin.live():
            if time.monotonic() > give_up or not self.running:
                raise UnavailableError("Envoy does not accept connections")
            await asyncio.sleep(_POLL_SECONDS)
        self.trouble = ""

    async def stop(self, patience: float) -> None:
        """Let running requests finish for at most ``patience`` seconds, then end Envoy."""
        self._wanted.clear()
        process, self._process = self._process, None
        former, self._former = self._former, None
        if process is not None:
            await self._drain(process, patience)
            await process.stop()
        if former is not None:
            await former[0].stop()
        self._launch.clean_up()
        self._deaths = 0
        self.trouble = ""

    def _start(self) -> EnvoyProcess:
        epoch = 0
        if self._former and not self._former[0].ended.is_set():
            epoch = self._former[1] + 1
        process = EnvoyProcess.start(self._launch.prepare(epoch), self._launch.log_path)
        log.info("started Envoy", extra={"pid": process.pid, "epoch": epoch})
        self.starts += 1
        self.adopted = False
        self._process = process
        return process

    async def _pause(self, lived: float) -> None:
        self._deaths = 1 if lived > _STEADY_SECONDS else self._deaths + 1
        seconds = min(_LONGEST_PAUSE, 0.5 * 2 ** (self._deaths - 2)) if self._deaths > 1 else 0.0
        self.trouble = f"Envoy ended: {self._last_words()}; starting it again"
        log.error(self.trouble, extra={"pause": seconds, "deaths": self._deaths})
        self._changed()
        await asyncio.sleep(seconds)

    async def _drain(self, process: EnvoyProcess, patience: float) -> None:
        give_up = time.monotonic() + patience
        try:
            await self._admin.close_politely()
            while time.monotonic() < give_up and await self._admin.active_requests():
                if process.ended.is_set():
                    return
                await asyncio.sleep(_POLL_SECONDS)
        except UnavailableError as error:
            log.warning("Envoy did not drain", extra={"reason": str(error)})

    def _last_words(self) -> str:
        return last_line(self._launch.log_path) or "it said nothing"


def last_line(path: Path) -> str:
    """The last line of a log that is not empty, or nothing."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LAST_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except FileNotFoundError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
