"""Questions to the nodes: each node keeps a channel open, over which it answers.

A channel carries the answers to several queries. Each answer has a short queue of its own: when it
is full, the channel is not read for a moment, so that the node slows down; a query whose reader
stays away is cut, and its coverage says so.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable

import msgspec

from meshapi.errors import HopliteError
from meshapi.flow import Flow, FlowCoverage, FlowQuery
from meshapi.wire import ChannelReply, ChannelRequest

ANSWER_TIMEOUT = 10.0  # seconds without a reply until a node counts as silent
READER_TIMEOUT = 5.0  # seconds that a full queue may hold up a channel
_QUEUE = 4  # replies

Send = Callable[[str], Awaitable[None]]


class Answer:
    """One node's answer to one query: flows, oldest first, then what they cover."""

    def __init__(self, node: str, query_id: str, channel: Channel, patience: float) -> None:
        self.node = node
        self.id = query_id
        self.coverage = FlowCoverage(node=node)
        self._channel = channel
        self._patience = patience
        self._deadline = asyncio.get_running_loop().time() + patience
        self._queue: asyncio.Queue[ChannelReply] = asyncio.Queue(_QUEUE)
        self._batch: tuple[Flow, ...] = ()
        self._position = 0
        self._finished = False  # nothing more is handed out
        self._said_all = False  # the node itself has ended its answer

    async def next(self) -> Flow | None:
        """The next flow, or None at the end of the answer, be it whole or cut short."""
        while self._position >= len(self._batch):
            if self._finished:
                return None
            await self._fill()
        flow = self._batch[self._position]
        self._position += 1
        if flow.node != self.node:  # a node speaks for itself alone
            flow = msgspec.structs.replace(flow, node=self.node)
        return flow

    async def offer(self, reply: ChannelReply, patience: float) -> None:
        """Hand over a reply; TimeoutError if nobody has taken the former ones in ``patience``."""
        async with asyncio.timeout(patience):
            await self._queue.put(reply)

    def cut(self, why: str) -> None:
        """End the answer here; ``why`` goes into its coverage."""
        if not self._finished:
            self._finished = True
            self.coverage = msgspec.structs.replace(self.coverage, error=why)
            if self._queue.empty():  # wake a reader that waits
                self._queue.put_nowait(ChannelReply(id=self.id, done=True))

    async def close(self) -> None:
        """Tell the node that nobody reads on."""
        await self._channel.end(self, cancel=not self._said_all)

    async def _fill(self) -> None:
        try:
            async with asyncio.timeout_at(self._deadline):
                reply = await self._queue.get()
        except TimeoutError:
            self.cut(f"no answer within {self._patience:g} s")
            return
        self._deadline = asyncio.get_running_loop().time() + self._patience
        if self._finished:
            return
        self._batch, self._position = reply.flows, 0
        if reply.coverage:
            self.coverage = msgspec.structs.replace(reply.coverage, node=self.node)
        if reply.error:
            self.coverage = msgspec.structs.replace(self.coverage, error=reply.error)
        self._finished = self._said_all = reply.done or bool(reply.error)


class Channel:
    """One node's open connection; ``send`` writes a text message to it."""

    def __init__(self, node: str, send: Send) -> None:
        self.node = node
        self._send = send
        self._answers: dict[str, Answer] = {}

    async def ask(self, query: FlowQuery, patience: float = ANSWER_TIMEOUT) -> Answer:
        answer = Answer(self.node, secrets.token_hex(8), self, patience)
        self._answers[answer.id] = answer
        request = ChannelRequest(id=answer.id, op="flows", query=query)
        try:
            await self._send(msgspec.json.encode(request).decode())
        except (ConnectionError, RuntimeError) as error:
            answer.cut(f"not connected: {error}")
        return answer

    async def deliver(self, text: str | bytes) -> None:
        """Take one message from the node; one that cannot be read is a refusal."""
        try:
            reply = msgspec.json.decode(text, type=ChannelReply)
        except msgspec.DecodeError as error:
            raise HopliteError(f"not a channel reply: {error}", where=self.node) from error
        answer = self._answers.get(reply.id)
        if answer is None:
            return  # cancelled meanwhile
        try:
            await answer.offer(reply, READER_TIMEOUT)
        except TimeoutError:
            answer.cut("cut short: the answer was not read fast enough")
            await self.end(answer, cancel=True)

    async def end(self, answer: Answer, *, cancel: bool) -> None:
        """Forget an answer; with ``cancel`` the node is told to stop."""
        if self._answers.pop(answer.id, None) is None or not cancel:
            return
        try:
            await self._send(
                msgspec.json.encode(ChannelRequest(id=answer.id, op="cancel")).decode()
            )
        except (ConnectionError, RuntimeError):
            return  # the channel has closed; the node forgets its queries by itself

    def closed(self) -> None:
        for answer in self._answers.values():
            answer.cut("the connection was lost during the answer")
        self._answers.clear()


class Channels:
    """The nodes that are connected now."""

    def __init__(self) -> None:
        self._channels: dict[str, Channel] = {}

    def opened(self, channel: Channel) -> None:
        self._channels[channel.node] = channel

    def closed(self, channel: Channel) -> None:
        channel.closed()
        if self._channels.get(channel.node) is channel:
            del self._channels[channel.node]

    def connected(self, nodes: Iterable[str]) -> list[Channel]:
        return [self._channels[node] for node in nodes if node in self._channels]

    def __len__(self) -> int:
        return len(self._channels)
