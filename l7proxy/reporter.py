"""Reports to the controller: on every change, and every REPORT_INTERVAL anyway."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from meshapi.client import ApiClient
from meshapi.errors import HopliteError
from meshapi.nodecontract import REPORT_INTERVAL
from meshapi.wire import NodeReport

log = logging.getLogger(__name__)


class Reporter:
    """``client`` gives the session with the controller if there is one, ``compose`` the report."""

    def __init__(
        self,
        node: str,
        client: Callable[[], ApiClient | None],
        compose: Callable[[], NodeReport],
    ) -> None:
        self._node = node
        self._client = client
        self._compose = compose
        self._changed = asyncio.Event()

    def changed(self) -> None:
        self._changed.set()

    async def run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPORT_INTERVAL):
                    await self._changed.wait()
            self._changed.clear()
            client = self._client()
            if client is None:
                continue
            try:
                await client.report(self._node, self._compose())
            except HopliteError as error:
                log.warning("the report was not taken", extra={"reason": str(error)})
