"""Watches of a real controller: what is there, what comes, what is too old, moving status."""

from __future__ import annotations

import asyncio

import pytest

from meshapi.errors import HopliteError
from meshapi.resources import by_word

WATCH = "/api/v1/namespaces/shop/services?watch=1"


async def events(stream, count):
    found = []
    async with asyncio.timeout(10):
        async for event in stream:
            found.append((event.type, event.object.metadata.name))
            if len(found) == count:
                break
    return found


def test_a_watch_shows_what_is_there_and_what_comes(controller, make):
    async def scenario():
        async with controller.admin() as admin:
            await admin.apply([make.namespace(), make.service("a")])
            stream = admin.watch(by_word("svc"))
            assert await events(stream, 1) == [("ADDED", "a")]
        async with controller.admin() as admin:
            stream = aiter(admin.watch(by_word("svc"), "shop"))
            first = asyncio.create_task(events(stream, 4), name="watch")
            await asyncio.sleep(0.2)
            await admin.apply([make.service("b")])
            await admin.apply([make.service("b", ports=[{"port": 81}])])
            await admin.delete(by_word("svc"), "shop", "b")
            assert await first == [
                ("ADDED", "a"),
                ("ADDED", "b"),
                ("MODIFIED", "b"),
                ("DELETED", "b"),
            ]

    asyncio.run(scenario())


def test_a_watch_resumes_from_any_version_even_after_a_restart(controller, make):
    async def scenario(version):
        async with controller.admin() as admin:
            if version is None:
                await admin.apply([make.namespace()])
                listing = await admin.listing(by_word("workload"))
                for i in range(3):
                    await admin.apply([make.workload(f"w-{i}", "n1", f"10.0.0.{i + 1}")])
                return listing.version
            stream = admin.watch(by_word("workload"), version=version)
            return await events(stream, 3)

    version = asyncio.run(scenario(None))
    controller.stop()
    controller.start()
    found = asyncio.run(scenario(version))
    assert found == [("ADDED", "w-0"), ("ADDED", "w-1"), ("ADDED", "w-2")]


def test_a_version_that_is_not_kept_is_gone(start, make):
    controller = start(watchHistory=100)

    async def scenario():
        async with controller.admin() as admin:
            await admin.apply([make.namespace()])
            for i in range(400):
                await admin.apply([make.resource("Namespace", "dev", {}, labels={"n": str(i)})])
            status, answer = await controller.request("GET", WATCH + "&resourceVersion=3")
            assert (status, answer["reason"], answer["code"]) == (410, "Expired", 410)
            assert "list again" in answer["message"]
            status, _ = await controller.request("GET", WATCH + "&resourceVersion=99999")
            assert status == 410
            with pytest.raises(HopliteError, match="are not kept"):
                await events(admin.watch(by_word("svc"), version="3"), 1)

    asyncio.run(scenario())


def test_a_watch_ends_in_time_and_marks_where_it_is(controller, make):
    async def scenario():
        async with controller.admin() as admin:
            await admin.apply([make.namespace(), make.service("a")])
        status, lines = await controller.request(
            "GET", WATCH + "&timeoutSeconds=1&allowWatchBookmarks=true"
        )
        assert status == 200
        return lines

    lines = asyncio.run(scenario())
    assert [line["type"] for line in lines] == ["ADDED", "BOOKMARK"]
    assert lines[1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_a_nodes_status_is_followed(controller):
    async def scenario():
        n1 = await controller.node("n1")
        async with controller.admin() as admin:
            stream = aiter(admin.watch(by_word("nodes")))
            first = await anext(stream)
            assert not first.object.status.ready
            await n1.report(1)
            async with asyncio.timeout(5):
                second = await anext(stream)
            assert second.type == "MODIFIED"
            assert second.object.status.ready

    asyncio.run(scenario())
