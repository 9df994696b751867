"""One flow query to many nodes, their answers merged by time while they arrive."""

from __future__ import annotations

import asyncio
import datetime as dt
import heapq
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence

from controller.distribution.channel import ANSWER_TIMEOUT, Answer, Channels
from meshapi.flow import Flow, FlowCoverage, FlowQuery
from meshapi.wire import FlowsReply


async def flows(
    channels: Channels, nodes: Iterable[str], query: FlowQuery, *, patience: float = ANSWER_TIMEOUT
) -> AsyncGenerator[FlowsReply, None]:
    """Flows of ``nodes``, oldest first, then the coverage of every one of them.

    ``patience`` is how many seconds a node may be silent. Close the generator to end the query.
    """
    known = sorted(nodes)
    asked = [channel.ask(query, patience) for channel in channels.connected(known)]
    answers = await asyncio.gather(*asked)
    try:
        if query.last is None:
            async for flow in merged(answers):
                yield FlowsReply(flow=flow)
        else:
            for flow in await _newest(answers, query.last):
                yield FlowsReply(flow=flow)
        covered = {answer.node: answer.coverage for answer in answers}
        yield FlowsReply(
            coverage=tuple(
                covered.get(node) or FlowCoverage(node=node, error="not connected")
                for node in known
            )
        )
    finally:
        for answer in answers:
            await answer.close()


async def merged(answers: Sequence[Answer]) -> AsyncIterator[Flow]:
    """The flows of all answers in the order of their time; each answer is in order itself."""
    heads: list[tuple[float, int, Flow]] = []
    for i, answer in enumerate(answers):
        head = await _head(answer, i)
        if head:
            heapq.heappush(heads, head)
    while heads:
        _, i, flow = heads[0]
        yield flow
        head = await _head(answers[i], i)
        if head:
            heapq.heapreplace(heads, head)
        else:
            heapq.heappop(heads)


async def _newest(answers: Sequence[Answer], count: int) -> deque[Flow]:
    kept: deque[Flow] = deque(maxlen=count)
    async for flow in merged(answers):
        kept.append(flow)
    return kept


async def _head(answer: Answer, index: int) -> tuple[float, int, Flow] | None:
    flow = await answer.next()
    if flow is None:
        return None
    try:
        return dt.datetime.fromisoformat(flow.time).timestamp(), index, flow
    except ValueError:
        answer.cut(f"cut short: {flow.time!r} is not a time")
        return None
