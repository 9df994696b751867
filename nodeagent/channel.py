"""Answers the controller's questions over a websocket that this node itself opens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

import aiohttp
import msgspec

from meshapi.client import ApiClient
from meshapi.errors import HopliteError
from meshapi.flow import Flow, FlowCoverage, FlowQuery
from meshapi.wire import ChannelReply, ChannelRequest

_log = logging.getLogger(__name__)

_BATCH = 200  # flows per message
_RETRY_SECONDS = 2.0

Ask = Callable[[FlowQuery], Iterator[Flow]]
Cover = Callable[[int], FlowCoverage]


class Channel:
    """Holds the websocket open and serves one query per request id."""

    def __init__(self, node: str, connect: Callable[[], ApiClient], ask: Ask, cover: Cover) -> None:
        self._node = node
        self._connect = connect
        self._ask = ask
        self._cover = cover
        self._queries: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Serve for ever; reconnect when the line goes."""
        while True:
            try:
                async with self._connect() as client, client.channel(self._node) as socket:
                    await self._serve(socket)
            except HopliteError as error:
                _log.warning("channel lost", extra={"error": str(error)})
            await asyncio.sleep(_RETRY_SECONDS)

    async def _serve(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        try:
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    self._take(socket, message.data)
        finally:
            for task in self._queries.values():
                task.cancel()

    def _take(self, socket: aiohttp.ClientWebSocketResponse, text: str) -> None:
        try:
            request = msgspec.json.decode(text, type=ChannelRequest)
        except msgspec.MsgspecError as error:
            _log.error("request not understood", extra={"error": str(error)})
            return
        if request.op == "cancel":
            running = self._queries.pop(request.id, None)
            if running is not None:
                running.cancel()
            return
        task = asyncio.create_task(self._answer(socket, request), name=f"flow query {request.id}")
        self._queries[request.id] = task
        task.add_done_callback(lambda _: self._queries.pop(request.id, None))

    async def _answer(
        self, socket: aiohttp.ClientWebSocketResponse, request: ChannelRequest
    ) -> None:
        returned = 0
        batch: list[Flow] = []
        try:
            for flow in self._ask(request.query or FlowQuery()):
                batch.append(flow)
                if len(batch) == _BATCH:
                    returned += len(batch)
                    await _send(socket, ChannelReply(id=request.id, flows=tuple(batch)))
                    batch = []
            returned += len(batch)
            reply = ChannelReply(
                id=request.id, flows=tuple(batch), done=True, coverage=self._cover(returned)
            )
        except HopliteError as error:
            reply = ChannelReply(id=request.id, done=True, error=str(error))
        await _send(socket, reply)


async def _send(socket: aiohttp.ClientWebSocketResponse, reply: ChannelReply) -> None:
    try:
        await socket.send_bytes(msgspec.json.encode(reply))
    except (ConnectionError, aiohttp.ClientError) as error:
        _log.warning("answer not delivered", extra={"error": str(error)})
