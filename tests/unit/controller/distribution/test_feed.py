import asyncio

import msgspec
import pytest

from controller.admission import admit, remove
from controller.distribution.feed import Feeds
from controller.distribution.scope import scope
from controller.ledger import Ledger
from controller.store.sqlite import SqliteStore
from meshapi.resources import Key, key_of
from meshapi.watch import FeedReducer
from meshapi.wire import FeedFrame, MeshSettings

MESH = MeshSettings(trust_domain="td", domain="mesh.test", root_namespace="root")


def with_feeds(tmp_path, make, scenario, **settings):
    async def run():
        store = await SqliteStore.open(tmp_path / "db", 1000)
        try:
            ledger = await Ledger.load(store, lambda _: None)
            await ledger.write(
                lambda s: admit(s, [make.namespace(), make.node("n1"), make.node("n2")], make.rules)
            )
            await scenario(ledger, Feeds(ledger, MESH, **settings))
        finally:
            await store.close()

    asyncio.run(run())


async def take(feed, reducer, count=1):
    """The last of ``count`` snapshots; PINGs on the way are counted by the caller."""
    snapshot = None
    for _ in range(count):
        snapshot = None
        while snapshot is None:
            chunk = await asyncio.wait_for(anext(feed), 5)
            for line in chunk.splitlines():
                snapshot = reducer.feed(line) or snapshot
    return snapshot


def test_a_feed_begins_with_reset_and_follows(tmp_path, make):
    async def scenario(ledger, feeds):
        feed, reducer = feeds.follow("n1"), FeedReducer()
        first = msgspec.json.decode(await anext(feed), type=FeedFrame)
        assert (first.type, first.mesh) == ("RESET", MESH)
        assert (await take(feed, reducer)).revision == 3
        await ledger.write(lambda s: admit(s, [make.workload("w"), make.service()], make.rules))
        snapshot = await take(feed, reducer)
        assert (snapshot.revision, snapshot.objects) == (5, scope(ledger.state, "n1"))

    with_feeds(tmp_path, make, scenario)


def test_a_revision_that_does_not_concern_a_node_is_told_all_the_same(tmp_path, make):
    async def scenario(ledger, feeds):
        feed, reducer = feeds.follow("n2"), FeedReducer()
        await take(feed, reducer)
        await ledger.write(lambda s: admit(s, [make.workload("w")], make.rules))
        assert await anext(feed) == b'{"type":"REVISION","revision":4}\n'

    with_feeds(tmp_path, make, scenario)


def test_a_reader_that_is_behind_gets_the_newest_state_in_one_batch(tmp_path, make):
    async def scenario(ledger, feeds):
        feed, reducer = feeds.follow("n1"), FeedReducer()
        await take(feed, reducer)
        for i in range(50):
            workload = make.workload("w", labels={"step": str(i)})
            await ledger.write(lambda s, w=workload: admit(s, [w], make.rules))
        snapshot = await take(feed, reducer)
        assert snapshot.revision == 53
        label = snapshot.objects[Key("Workload", "shop", "w")].metadata.labels["step"]
        assert label == "49"

    with_feeds(tmp_path, make, scenario)


def test_a_quiet_feed_is_kept_warm(tmp_path, make):
    async def scenario(ledger, feeds):
        feed, reducer = feeds.follow("n1"), FeedReducer()
        await take(feed, reducer)
        assert await anext(feed) == b'{"type":"PING"}\n'
        assert await anext(feed) == b'{"type":"PING"}\n'

    with_feeds(tmp_path, make, scenario, ping_interval=0.01)


def test_a_feed_ends_with_its_node(tmp_path, make):
    async def scenario(ledger, feeds):
        feed, reducer = feeds.follow("n1"), FeedReducer()
        await take(feed, reducer)
        await ledger.write(lambda s: remove(s, key_of(make.node("n1"))))
        with pytest.raises(StopAsyncIteration):
            await anext(feed)
        assert [b"RESET" in c async for c in feeds.follow("stranger")] == [True]

    with_feeds(tmp_path, make, scenario)


def test_a_large_scope_comes_in_bounded_chunks(tmp_path, make):
    async def scenario(ledger, feeds):
        objects = [make.workload(f"w{i}", annotations={"note": "x" * 1000}) for i in range(500)]
        await ledger.write(lambda s: admit(s, objects, make.rules))
        feed = feeds.follow("n1")
        sizes = []
        while True:
            chunk = await anext(feed)
            sizes.append(len(chunk))
            if b"REVISION" in chunk:
                break
        assert max(sizes) < 70_000
        assert sum(sizes) > 500_000

    with_feeds(tmp_path, make, scenario)
