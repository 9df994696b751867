import asyncio
import sqlite3
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.errors import ExpiredError, StoreError
from controller.store.base import Change, Spending, Token, Transaction
from controller.store.sqlite import SqliteStore
from meshapi.errors import ConflictError, UnauthorizedError
from meshapi.identity import WorkloadIdentity
from meshapi.resources import Key

A, B = Key("Service", "shop", "a"), Key("Service", "shop", "b")


@asynccontextmanager
async def opened(path, history=1000):
    store = await SqliteStore.open(path, history)
    try:
        yield store
    finally:
        await store.close()


def put(key, value, expected=0):
    return Transaction([Change(key, value, expected)])


def run(scenario):
    return asyncio.run(scenario())


def test_what_was_committed_is_there_after_reopening(tmp_path):
    identity = WorkloadIdentity("t", "shop", "web")

    async def scenario():
        async with opened(tmp_path / "db") as store:
            assert await store.commit(Transaction([Change(A, b"1", 0), Change(B, b"2", 0)])) == 1
            assert await store.commit(put(A, b"3", expected=1)) == 3
            assert await store.commit(Transaction([Change(B, None, 2)], {identity: 256})) == 4
        async with opened(tmp_path / "db") as store:
            contents = await store.load()
            assert contents.revision == 4
            assert [(e.key, e.revision, e.value) for e in contents.entries] == [(A, 3, b"3")]
            assert contents.identities == {identity: 256}

    run(scenario)


def test_nobody_else_may_read_it(tmp_path):
    async def scenario():
        async with opened(tmp_path / "db") as store:
            await store.commit(put(A, b"1"))
            return {p.name: p.stat().st_mode & 0o777 for p in tmp_path.iterdir()}

    assert run(scenario) == {"db": 0o600, "db-wal": 0o600, "db-shm": 0o600}


def test_a_transaction_is_written_whole_or_not_at_all(tmp_path):
    async def scenario():
        async with opened(tmp_path / "db") as store:
            await store.commit(put(A, b"1"))
            bad = Transaction(
                [Change(B, b"2", 0), Change(A, b"3", 9)], {WorkloadIdentity("t", "n", "a"): 256}
            )
            with pytest.raises(ConflictError, match="version 1, not 9"):
                await store.commit(bad)
            contents = await store.load()
            assert (contents.revision, len(contents.entries), contents.identities) == (1, 1, {})
            with pytest.raises(ConflictError):
                await store.commit(put(A, b"x"))

    run(scenario)


def test_a_log_range_says_what_happened_to_a_kind(tmp_path):
    async def scenario():
        async with opened(tmp_path / "db") as store:
            await store.commit(put(A, b"1"))
            await store.commit(put(Key("Namespace", "", "x"), b"n"))
            await store.commit(put(A, b"2", expected=1))
            await store.commit(put(A, None, expected=3))
            found = await store.changes_after(0, "Service", 10)
            assert [(e.revision, e.action, e.value, e.previous) for e in found.entries] == [
                (1, "ADDED", b"1", None),
                (3, "MODIFIED", b"2", b"1"),
                (4, "DELETED", b"2", b"2"),
            ]
            assert found.through == 4
            assert (await store.changes_after(0, "Service", 2)).through == 3
            assert (await store.changes_after(4, "Service", 2)).entries == []

    run(scenario)


def test_old_log_rows_are_compacted_and_refused(tmp_path):
    async def scenario():
        async with opened(tmp_path / "db", history=100) as store:
            for i in range(600):
                await store.commit(put(A, str(i).encode(), expected=i))
            with pytest.raises(ExpiredError, match="are not kept"):
                await store.changes_after(0, "Service", 1)
            kept = await store.changes_after(500, "Service", 1000)
            assert [e.revision for e in kept.entries] == list(range(501, 601))
            with pytest.raises(ExpiredError):
                await store.changes_after(601, "Service", 1)
        async with opened(tmp_path / "db", history=100) as store:
            assert (await store.load()).revision == 600

    run(scenario)


def test_a_one_time_token_is_spent_with_its_transaction(tmp_path):
    token = Token("id", "join", b"hash", "n1", 100.0)

    def spend(**change):
        given_ = {"id": "id", "hash": b"hash", "node": "n1", "now": 50.0, **change}
        return Transaction([Change(A, b"1", 0)], spend=Spending(**given_))

    async def scenario():
        async with opened(tmp_path / "db") as store:
            await store.put_token(token, 0.0)
            for wrong in ({"hash": b"x"}, {"id": "x"}, {"now": 100.0}):
                with pytest.raises(UnauthorizedError, match="unknown, used already, or has exp"):
                    await store.commit(spend(**wrong))
            with pytest.raises(UnauthorizedError, match="made for node n1, not n2"):
                await store.commit(spend(node="n2"))
            assert await store.tokens("join") == [token]
            await store.commit(spend())
            assert await store.tokens("join") == []
            with pytest.raises(UnauthorizedError):
                await store.commit(spend())

    run(scenario)


def test_a_token_stays_if_its_transaction_fails(tmp_path):
    async def scenario():
        async with opened(tmp_path / "db") as store:
            await store.put_token(Token("id", "join", b"h", "n1", 100.0), 0.0)
            spending = Spending("id", b"h", "n1", 1.0)
            with pytest.raises(ConflictError):
                await store.commit(Transaction([Change(A, b"1", 7)], spend=spending))
            assert len(await store.tokens("join")) == 1

    run(scenario)


def test_expired_join_tokens_are_forgotten_and_admins_are_not(tmp_path):
    async def scenario():
        async with opened(tmp_path / "db") as store:
            await store.put_token(Token("admin", "admin", b"a"), 0.0)
            await store.put_token(Token("old", "join", b"h", "n1", 10.0), 0.0)
            await store.put_token(Token("new", "join", b"h", "n1", 30.0), 20.0)
            assert [t.id for t in await store.tokens("join")] == ["new"]
            assert [t.id for t in await store.tokens("admin")] == ["admin"]

    run(scenario)


@pytest.mark.parametrize("content", [b"junk" * 1000, b"SQLite format 3\0" + b"\xff" * 8192])
def test_a_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "db").write_bytes(content)
    with pytest.raises(StoreError, match=r"damaged or not a store.*put a backup there"):
        run(lambda: SqliteStore.open(tmp_path / "db", 100))


def test_a_torn_page_is_noticed(tmp_path):
    async def fill():
        async with opened(tmp_path / "db") as store:
            for i in range(300):
                await store.commit(put(Key("Service", "shop", f"s{i}"), b"x" * 500))

    run(fill)
    content = bytearray((tmp_path / "db").read_bytes())
    content[40960:45056] = b"\xa5" * 4096
    (tmp_path / "db").write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        run(lambda: SqliteStore.open(tmp_path / "db", 100))


def test_another_layout_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / "db") as other:
        other.execute("PRAGMA user_version=7")
    other.close()
    with pytest.raises(StoreError, match="layout is version 7"):
        run(lambda: SqliteStore.open(tmp_path / "db", 100))


def test_a_directory_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(StoreError, match="cannot be opened: No such file or directory"):
        run(lambda: SqliteStore.open(tmp_path / "no" / "db", 100))


names = st.sampled_from("abc")
steps = st.lists(st.tuples(names, st.none() | st.integers(0, 9)), max_size=30)


@given(steps, st.integers(0, 30), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_replaying_the_log_from_any_revision_leads_to_the_present(
    tmp_path_factory, steps, start, limit
):
    path = tmp_path_factory.mktemp("store") / "db"

    async def scenario():
        async with opened(path) as store:
            current: dict[Key, tuple[int, bytes]] = {}
            history = [dict(current)]
            for name, value in steps:
                key = Key("Service", "shop", name)
                if value is None and key not in current:
                    continue
                expected = current[key][0] if key in current else 0
                data = None if value is None else str(value).encode()
                revision = await store.commit(put(key, data, expected))
                if data is None:
                    del current[key]
                else:
                    current[key] = (revision, data)
                history.append(dict(current))
            cursor = min(start, len(history) - 1)
            replayed = history[cursor]
            while cursor < len(history) - 1:
                found = await store.changes_after(cursor, "Service", limit)
                for entry in found.entries:
                    if entry.action == "DELETED":
                        del replayed[entry.key]
                    else:
                        replayed[entry.key] = (entry.revision, entry.value)
                cursor = found.through
            assert replayed == current
            loaded = await store.load()
            assert {e.key: (e.revision, e.value) for e in loaded.entries} == current

    run(scenario)
