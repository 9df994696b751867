"""Tells the controller what is in force: on every change, and every REPORT_INTERVAL besides."""

from __future__ import annotations

import asyncio
import logging
import platform
from collections.abc import Callable, Mapping

from meshapi import __version__, nodecontract
from meshapi.client import ApiClient
from meshapi.errors import HopliteError
from meshapi.resources import Ejection, Key, PolicyCut
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
        say: Callable[[], NodeReport],
        changed: asyncio.Event,
    ) -> None:
        self._node = node
        self._connect = connect
        self._say = say
        self._changed = changed

    async def run(self) -> None:
        """Report for ever; a controller that is away is tried again."""
        while True:
            try:
                async with self._connect() as client:
                    while True:
                        self._changed.clear()
                        await client.report(self._node, self._say())
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


def report(
    in_force: InForce,
    features: Mapping[str, str],
    cut: Mapping[tuple[Key, str], int],
    ejections: tuple[Ejection, ...],
) -> NodeReport:
    """What the controller is told. ``cut`` counts connections ended. Pure."""
    return NodeReport(
        component="agent",
        revision=in_force.revision,
        version=__version__,
        ready=not in_force.problems,
        state="enforcing",
        kernel_version=platform.release(),
        features=dict(features),
        problems=in_force.problems,
        workloads=in_force.workloads,
        cut=tuple(
            PolicyCut(
                kind=key.kind,
                namespace=key.namespace,
                name=key.name,
                uid=uid,
                connections=number,
            )
            for (key, uid), number in sorted(cut.items())
        ),
        ejections=ejections,
    )
