"""Flow queries through a real controller to nodes that answer over real websockets."""

from __future__ import annotations

import asyncio
import contextlib
import time

import msgspec
import pytest

from meshapi import flowfilter
from meshapi.errors import ForbiddenError, InvalidError
from meshapi.flow import Flow, FlowCoverage, FlowEndpoint, FlowQuery, FlowService
from meshapi.wire import ChannelReply, ChannelRequest


def flow(second: int, verdict: str = "ALLOW") -> Flow:
    web = FlowEndpoint(kind="workload", namespace="shop", name="web-1", address="10.0.0.2", port=80)
    client = FlowEndpoint(kind="workload", namespace="dev", name="tester", address="10.0.0.1")
    return Flow(
        time=f"2026-01-01T00:00:{second:02}Z",
        node="?",
        direction="outbound",
        protocol="TCP",
        verdict=verdict,
        reason="POLICY_ALLOW" if verdict == "ALLOW" else "EGRESS_DENIED",
        reason_code=3,
        path="direct",
        source=client,
        destination=web,
        service=FlowService(namespace="shop", name="web", address="10.96.0.1", port=80),
        state="closed",
        bytes_sent=1500,
        bytes_received=2_500_000,
        duration_ms=12.5,
    )


@contextlib.asynccontextmanager
async def answering(node, flows, coverage=None, silent=False):
    """An agent's side of the channel: filters its flows and answers in batches of two."""

    async def serve(socket):
        async for message in socket:
            request = msgspec.json.decode(message.data, type=ChannelRequest)
            if request.op != "flows" or silent:
                continue
            found = [f for f in flows if flowfilter.matches(request.query, f)]
            found = found[-request.query.last :] if request.query.last else found
            for i in range(0, len(found), 2):
                reply = ChannelReply(id=request.id, flows=tuple(found[i : i + 2]))
                await socket.send_bytes(msgspec.json.encode(reply))
            done = coverage or FlowCoverage(node=node.name, returned=len(found))
            await socket.send_str(
                msgspec.json.encode(ChannelReply(id=request.id, done=True, coverage=done)).decode()
            )

    async with node.client() as client, client.channel(node.name) as socket:
        task = asyncio.create_task(serve(socket), name=f"channel-{node.name}")
        try:
            yield
        finally:
            task.cancel()
            await socket.close()


async def ask(controller, **query):
    async with controller.admin() as admin:
        replies = [r async for r in admin.flows(FlowQuery(**query))]
    found = [r.flow for r in replies if r.flow]
    return found, {c.node: c for r in replies for c in r.coverage or ()}


def test_flows_of_all_nodes_are_merged_and_absent_ones_named(controller):
    async def scenario():
        n1, n2 = await controller.node("n1"), await controller.node("n2")
        await controller.node("n3")
        lost = FlowCoverage(node="n2", returned=3, lost=7)
        async with (
            answering(n1, [flow(1), flow(4), flow(5, "DENY")]),
            answering(n2, [flow(2), flow(3), flow(6)], lost),
        ):
            found, coverage = await ask(controller)
            assert [(f.time[17:19], f.node) for f in found] == [
                ("01", "n1"),
                ("02", "n2"),
                ("03", "n2"),
                ("04", "n1"),
                ("05", "n1"),
                ("06", "n2"),
            ]
            assert coverage["n2"].lost == 7
            assert coverage["n3"].error == "not connected"
            found, _ = await ask(controller, last=2)
            assert [f.time[17:19] for f in found] == ["05", "06"]
            found, _ = await ask(controller, verdict="DENY", source="dev/tester")
            assert len(found) == 1
            with pytest.raises(InvalidError, match="use one of PASS"):
                await ask(controller, verdict="x")
        _, coverage = await ask(controller)
        assert {c.error for c in coverage.values()} == {"not connected"}

    asyncio.run(scenario())


def test_only_the_agent_of_the_node_may_open_its_channel(controller):
    async def scenario():
        n1 = await controller.node("n1")
        await controller.node("n2")
        async with await n1.l7proxy() as proxy, n1.client() as agent:
            for client, node in ((proxy, "n1"), (agent, "n2")):
                with pytest.raises(Exception, match="403"):
                    async with client.channel(node):
                        pass
            with pytest.raises(ForbiddenError):
                await anext(aiter(agent.flows(FlowQuery())))

    asyncio.run(scenario())


def test_an_agent_that_talks_nonsense_loses_its_channel(controller):
    async def scenario():
        n1 = await controller.node("n1")
        async with n1.client() as client, client.channel("n1") as socket:
            await socket.send_str("nonsense")
            message = await socket.receive(timeout=5)
            assert message.type.name in ("CLOSE", "CLOSED", "CLOSING")
        async with answering(n1, [flow(1)]):
            assert len((await ask(controller))[0]) == 1

    asyncio.run(scenario())


def test_many_flows_stream_through(controller):
    async def scenario():
        nodes = [await controller.node(f"n{i}") for i in range(3)]
        many = [flow(i // 100) for i in range(6000)]
        async with contextlib.AsyncExitStack() as stack:
            for node in nodes:
                await stack.enter_async_context(answering(node, many))
            started = time.monotonic()
            found, _ = await ask(controller)
            assert len(found) == 18_000
            assert [f.time for f in found] == sorted(f.time for f in found)
            return time.monotonic() - started

    asyncio.run(scenario())


def test_hopctl_shows_flows_and_what_is_missing(controller):
    async def scenario():
        n1 = await controller.node("n1")
        await controller.node("n2")
        async with answering(n1, [flow(1), flow(2, "DENY")]):
            return [
                await asyncio.to_thread(controller.hopctl, "flows", *arguments)
                for arguments in (
                    ["-o", "json"],
                    ["--to", "shop/web"],
                    ["--verdict", "deny", "--since", "2025-01-01T00:00:00Z", "-o", "json"],
                    ["--from", "nix/nix"],
                )
            ]

    as_json, table, denied, nothing = asyncio.run(scenario())
    assert [json["verdict"] for json in map(msgspec.json.decode, as_json.stdout.splitlines())] == [
        "ALLOW",
        "DENY",
    ]
    assert as_json.stderr == "warning: n2: not connected\n"
    lines = table.stdout.splitlines()
    assert lines[0].split() == [
        "TIME", "NODE", "DIR", "FROM", "TO", "SERVICE", "PROTO", "VERDICT", "REASON", "PATH",
        "BYTES", "DURATION",
    ]  # fmt: skip
    assert lines[2].split()[2:] == [
        "n1", "out", "dev/tester", "shop/web-1:80", "shop/web:80", "TCP", "DENY", "EGRESS_DENIED",
        "direct", "1.5kB/2.5MB", "12.5", "ms",
    ]  # fmt: skip
    assert "\x1b" not in table.stdout
    assert denied.stdout.count("\n") == 1
    assert nothing.stdout == ""
    assert "no flows match" in nothing.stderr
    assert nothing.returncode == 0
