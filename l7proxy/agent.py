"""The agent's unix socket: certificates from it, and to it the service ports that are ready."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from l7proxy import unixhttp
from l7proxy.backoff import Backoff
from meshapi import codec, wire
from meshapi.errors import HopliteError

log = logging.getLogger(__name__)

_CERTIFICATES = "/v1/certificates"
_READY = "/v1/ready"


class AgentLink:
    """Tells the agent what is ready: each change, and everything again when it comes back.

    ``told`` is called whenever the agent has confirmed a report.
    """

    def __init__(self, path: Path, told: Callable[[], None]) -> None:
        self._path = path
        self._told = told
        self._target: wire.ProxyReady | None = None
        self._confirmed: wire.ProxyReady | None = None
        self._redirected: frozenset[wire.ServicePortRef] | None = None
        self._changed = asyncio.Event()
        self._progress = asyncio.Event()

    def announce(self, ready: wire.ProxyReady) -> None:
        """From now on this is what the agent should know; returns at once."""
        if self._target is None or ready.services != self._target.services:
            self._target = ready
            self._changed.set()

    @property
    def redirected(self) -> frozenset[wire.ServicePortRef] | None:
        """The service ports that the agent may be redirecting; None before its first answer."""
        return self._redirected

    async def confirmed(self) -> None:
        """Wait until the agent has confirmed all that was announced."""
        while self._confirmed is not self._target:
            await self._progress.wait()

    async def sign(self, csr: str) -> wire.CertificateReply:
        """Have a certificate request (PEM) signed."""
        request = wire.CertificateRequest(component="l7proxy", csr=csr)
        body = await self._call("POST", _CERTIFICATES, request)
        return codec.convert(codec.parse_json(body), wire.CertificateReply, _CERTIFICATES)

    async def run(self) -> None:
        """Report over calls of their own; one idle connection shows whether the agent is there."""
        backoff = Backoff(0.05, 2.0)
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(str(self._path))
            except OSError as error:
                log.debug("the agent cannot be reached", extra={"reason": str(error)})
                await backoff.pause()
                continue
            gone = asyncio.create_task(_until_closed(reader), name="agent-presence")
            gone.add_done_callback(lambda _: self._changed.set())
            self._confirmed = None
            try:
                await self._report_until(gone, backoff)
            finally:
                gone.cancel()
                writer.close()

    async def _report_until(self, gone: asyncio.Task[None], backoff: Backoff) -> None:
        while not gone.done():
            self._changed.clear()
            target = self._target
            if target is not None and self._confirmed is not target:
                try:
                    await self._report(target)
                    backoff.reset()
                except HopliteError as error:
                    log.warning(
                        "the agent was not told what is ready", extra={"reason": str(error)}
                    )
                    await backoff.pause()
                    continue
            else:
                await self._changed.wait()

    async def _report(self, target: wire.ProxyReady) -> None:
        services = frozenset(target.services)
        if self._redirected is not None:
            self._redirected |= services
        await self._call("PUT", _READY, target)
        self._redirected = services
        self._confirmed = target
        self._progress.set()
        self._progress = asyncio.Event()
        self._told()

    async def _call(self, method: str, path: str, message: msgspec.Struct) -> bytes:
        status, body = await unixhttp.call(self._path, method, path, msgspec.json.encode(message))
        if status >= 400:
            text = body[:200].decode(errors="replace")
            raise HopliteError(
                f"the agent refuses {method} {path} (HTTP {status}): {text}", where=str(self._path)
            )
        return body


async def _until_closed(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):  # a reset is a good-bye too
        await reader.read()
