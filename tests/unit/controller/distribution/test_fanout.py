"""Flow queries to nodes that answer in this process; test_controller_flows has real channels."""

import asyncio

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.distribution import channel as channels_module
from controller.distribution.channel import Channel, Channels
from controller.distribution.fanout import flows
from meshapi.errors import HopliteError
from meshapi.flow import Flow, FlowCoverage, FlowEndpoint, FlowQuery
from meshapi.wire import ChannelReply, ChannelRequest


def flow(second, node="n1"):
    return Flow(
        time=f"2026-01-01T00:00:{second:06.3f}Z",
        node=node,
        direction="outbound",
        protocol="TCP",
        verdict="ALLOW",
        reason="NO_POLICY",
        reason_code=2,
        path="direct",
        source=FlowEndpoint(),
        destination=FlowEndpoint(),
        state="closed",
    )


class FakeNode:
    """Answers each query with its batches; keeps what it was sent."""

    def __init__(self, name, *batches, end=True, coverage=None):
        self.name = name
        self.batches = batches
        self.end = end
        self.coverage = coverage or FlowCoverage(node=name)
        self.requests = []
        self.tasks = []
        self.channel = Channel(name, self.receive)

    async def receive(self, text):
        request = msgspec.json.decode(text, type=ChannelRequest)
        self.requests.append(request)
        if request.op == "flows":
            self.tasks.append(asyncio.create_task(self.answer(request.id), name="answer"))

    async def answer(self, query_id):
        for batch in self.batches:
            await self.say(ChannelReply(id=query_id, flows=tuple(batch)))
        if self.end:
            await self.say(ChannelReply(id=query_id, done=True, coverage=self.coverage))

    async def say(self, reply):
        await self.channel.deliver(msgspec.json.encode(reply))


async def ask(nodes, query=FlowQuery(), known=None, patience=5.0):  # noqa: B008
    channels = Channels()
    for node in nodes:
        channels.opened(node.channel)
    known = known or [n.name for n in nodes]
    replies = [r async for r in flows(channels, known, query, patience=patience)]
    found = [r.flow for r in replies if r.flow]
    covered = {c.node: c for r in replies for c in r.coverage or ()}
    assert replies[-1].coverage is not None
    return found, covered


def test_answers_are_merged_by_time():
    async def scenario():
        found, covered = await ask(
            [
                FakeNode("n1", [flow(1), flow(4)], [flow(5)]),
                FakeNode("n2", [flow(2, "n2")], [], [flow(3, "n2"), flow(6, "n2")]),
                FakeNode("n3"),
            ]
        )
        assert [f.time[17:19] for f in found] == ["01", "02", "03", "04", "05", "06"]
        assert set(covered) == {"n1", "n2", "n3"}

    asyncio.run(scenario())


def test_times_of_different_precision_are_compared_as_times():
    async def scenario():
        a = msgspec.structs.replace(flow(0), time="2026-01-01T00:00:01Z")
        b = msgspec.structs.replace(flow(0, "n2"), time="2026-01-01T00:00:01.5Z")
        found, _ = await ask([FakeNode("n2", [b]), FakeNode("n1", [a])])
        assert [f.node for f in found] == ["n1", "n2"]

    asyncio.run(scenario())


def test_the_newest_of_all_are_kept():
    async def scenario():
        nodes = [FakeNode("n1", [flow(1), flow(4)]), FakeNode("n2", [flow(2), flow(3)])]
        found, _ = await ask(nodes, FlowQuery(last=2))
        assert [f.time[17:19] for f in found] == ["03", "04"]
        assert nodes[0].requests[0].query == FlowQuery(last=2)

    asyncio.run(scenario())


def test_absent_and_silent_nodes_are_named():
    async def scenario():
        silent = FakeNode("n2", [flow(1)], end=False)
        found, covered = await ask(
            [FakeNode("n1", [flow(2)]), silent], known=["n1", "n2", "n3"], patience=0.05
        )
        assert len(found) == 2
        assert covered["n1"].error == ""
        assert covered["n2"].error == "no answer within 0.05 s"
        assert covered["n3"].error == "not connected"
        assert silent.requests[-1].op == "cancel"

    asyncio.run(scenario())


def test_a_lost_connection_and_a_nodes_own_error_are_told():
    async def scenario():
        lost = FakeNode("n1", [flow(1)], end=False)
        failed = FakeNode("n2", end=False)
        channels = Channels()
        channels.opened(lost.channel)
        channels.opened(failed.channel)
        replies = flows(channels, ["n1", "n2"], FlowQuery())
        pending = asyncio.create_task(anext(replies), name="first")
        await asyncio.sleep(0.01)
        query_id = failed.requests[0].id
        await failed.say(ChannelReply(id=query_id, error="history is damaged"))
        assert (await pending).flow.time[17:19] == "01"
        pending = asyncio.create_task(anext(replies), name="second")
        await asyncio.sleep(0.01)
        channels.closed(lost.channel)
        covered = {c.node: c.error for c in (await pending).coverage}
        assert covered == {
            "n1": "the connection was lost during the answer",
            "n2": "history is damaged",
        }
        assert channels.connected(["n1", "n2"]) == [failed.channel]

    asyncio.run(scenario())


def test_a_node_speaks_for_itself_only():
    async def scenario():
        lie = FakeNode("n1", [flow(1, "n2")], coverage=FlowCoverage(node="n2", lost=3))
        found, covered = await ask([lie])
        assert found[0].node == "n1"
        assert covered == {"n1": FlowCoverage(node="n1", lost=3)}

    asyncio.run(scenario())


def test_an_answer_that_nobody_reads_is_cut(monkeypatch):
    async def scenario():
        monkeypatch.setattr(channels_module, "READER_TIMEOUT", 0.05)
        node = FakeNode("n1", *([flow(i)] for i in range(10)))
        channels = Channels()
        channels.opened(node.channel)
        replies = flows(channels, ["n1"], FlowQuery())
        await anext(replies)
        await asyncio.sleep(0.2)
        rest = [r async for r in replies]
        assert "not read fast enough" in rest[-1].coverage[0].error
        assert node.requests[-1].op == "cancel"

    asyncio.run(scenario())


def test_an_unreadable_answer_is_refused():
    async def scenario():
        with pytest.raises(HopliteError, match="n1: not a channel reply"):
            await FakeNode("n1").channel.deliver("junk")
        await FakeNode("n1").say(ChannelReply(id="nobody asked"))
        found, covered = await ask([FakeNode("n1", [msgspec.structs.replace(flow(1), time="x")])])
        assert (found, covered["n1"].error) == ([], "cut short: 'x' is not a time")

    asyncio.run(scenario())


def test_closing_the_query_cancels_it_everywhere():
    async def scenario():
        node = FakeNode("n1", [flow(1)], end=False)
        channels = Channels()
        channels.opened(node.channel)
        replies = flows(channels, ["n1"], FlowQuery())
        await anext(replies)
        await replies.aclose()
        assert [r.op for r in node.requests] == ["flows", "cancel"]

    asyncio.run(scenario())


answers = st.lists(st.lists(st.integers(0, 59), max_size=20).map(sorted), max_size=4)


@given(answers, st.integers(1, 5), st.none() | st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_merging_equals_sorting(seconds, size, last):
    async def scenario():
        nodes = [
            FakeNode(
                f"n{i}",
                *(
                    [flow(s, f"n{i}") for s in part[j : j + size]]
                    for j in range(0, len(part), size)
                ),
            )
            for i, part in enumerate(seconds)
        ]
        found, _ = await ask(nodes, FlowQuery(last=last))
        times = sorted(f.time for node in nodes for batch in node.batches for f in batch)
        assert [f.time for f in found] == (times if last is None else times[-last:])

    asyncio.run(scenario())
