"""Tells the controller what is in force: on every change, and every REPORT_INTERVAL besides."""

from __future__ import annotations

import asyncio
import logging
import platform
from collections.abc import Callable

from meshapi import __version__, nodecontract
from meshapi.client import ApiClient
from meshapi.errors import HopliteError
from meshapi.resources import IdentityKey
from meshapi.wire import NodeReport
from nodeagent.reconcile import InForce

_log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0


class Reporter:
    """Sends the newest report; what changed while one was under way goes out right after it."""

    def __init__(
        self,
        node: str,
        connect: Callable[[], ApiClient],
        in_force: Callable[[], InForce],
        features: dict[str, str],
        changed: asyncio.Event,
        *,
        identity_keys: Callable[[], tuple[IdentityKey, ...] | None],
    ) -> None:
        self._node = node
        self._connect = connect
        self._in_force = in_force
        self._features = features
        self._identity_keys = identity_keys
        self._changed = changed

    async def run(self) -> None:
        """Report for ever; a controller that is away is tried again."""
        while True:
            try:
                async with self._connect() as client:
                    while True:
                        self._changed.clear()
                        await client.report(self._node, self._report())
                        await self._wait(nodecontract.REPORT_INTERVAL)
            except HopliteError as error:
                _log.warning("report not delivered", extra={"error": str(error)})
                await asyncio.sleep(_RETRY_SECONDS)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    def _report(self) -> NodeReport:
        in_force = self._in_force()
        return NodeReport(
            component="agent",
            revision=in_force.revision,
            version=__version__,
            ready=not in_force.problems,
            state="enforcing",
            kernel_version=platform.release(),
            features=self._features,
            problems=in_force.problems,
            workloads=in_force.workloads,
            identity_keys=self._identity_keys(),
        )
