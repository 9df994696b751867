import asyncio

import msgspec
import pytest

from controller.admission import admit, remove
from controller.errors import StoreError
from controller.ledger import Ledger
from controller.store.base import Change, Transaction
from controller.store.sqlite import SqliteStore
from meshapi.resources import Key


def with_ledger(tmp_path, scenario):
    async def run():
        store = await SqliteStore.open(tmp_path / "db", 1000)
        try:
            times: list[float] = []
            await scenario(await Ledger.load(store, times.append), store, times)
        finally:
            await store.close()

    asyncio.run(run())


def contents(ledger):
    state = ledger.state
    kinds = {kind: objects for kind, objects in state.kinds.items() if objects}
    return state.revision, kinds, state.identities


def test_memory_equals_what_a_restart_reads(tmp_path, make):
    async def scenario(ledger, store, times):
        await ledger.write(
            lambda s: admit(s, [make.namespace(), make.service(), make.workload("w")], make.rules)
        )
        await ledger.write(lambda s: admit(s, [make.workload("w", "n2")], make.rules))
        await ledger.write(lambda s: remove(s, Key("Service", "shop", "web")))
        again = await Ledger.load(store, times.append)
        assert contents(again) == contents(ledger)
        assert ledger.state.revision == 5
        assert len(times) == 3

    with_ledger(tmp_path, scenario)


def test_objects_carry_the_revision_of_their_write(tmp_path, make):
    async def scenario(ledger, _store, _times):
        outcome = await ledger.write(
            lambda s: admit(s, [make.namespace(), make.service()], make.rules)
        )
        assert [o.metadata.resource_version for o in outcome.objects] == ["1", "2"]
        assert outcome.revision == 2
        same = await ledger.write(lambda s: admit(s, [make.service()], make.rules))
        assert (same.revision, same.plan.writes) == (2, ())

    with_ledger(tmp_path, scenario)


def test_a_preview_changes_nothing(tmp_path, make):
    async def scenario(ledger, _store, _times):
        outcome = ledger.preview(lambda s: admit(s, [make.namespace()], make.rules))
        assert outcome.dry and len(outcome.plan.writes) == 1
        assert ledger.state.revision == 0

    with_ledger(tmp_path, scenario)


def test_concurrent_writes_each_see_the_one_before(tmp_path, make):
    async def scenario(ledger, _store, _times):
        await ledger.write(lambda s: admit(s, [make.namespace()], make.rules))
        one_address = [
            ledger.write(
                lambda s, n=n: admit(s, [make.workload(f"w{n}", "n1", "10.0.0.1")], make.rules)
            )
            for n in range(10)
        ]
        outcomes = await asyncio.gather(*one_address, return_exceptions=True)
        assert sum(not isinstance(o, Exception) for o in outcomes) == 1

    with_ledger(tmp_path, scenario)


def test_waiters_wake_at_the_commit(tmp_path, make):
    async def scenario(ledger, _store, _times):
        waiting = asyncio.create_task(ledger.changed(0), name="waiter")
        await asyncio.sleep(0)
        assert not waiting.done()
        await ledger.write(lambda s: admit(s, [make.namespace()], make.rules))
        await asyncio.wait_for(waiting, 1)
        await asyncio.wait_for(ledger.changed(0), 1)

    with_ledger(tmp_path, scenario)


def test_a_cancelled_caller_does_not_undo_memory(tmp_path, make):
    async def scenario(ledger, store, _times):
        writing = asyncio.create_task(
            ledger.write(lambda s: admit(s, [make.namespace()], make.rules)), name="write"
        )
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        await ledger.drain()
        assert ledger.state.revision == (await store.load()).revision == 1

    with_ledger(tmp_path, scenario)


def test_an_object_of_another_release_is_refused(tmp_path):
    async def scenario(ledger, store, _times):
        value = msgspec.json.encode({"apiVersion": "v1", "kind": "Namespace", "new": 1})
        await store.commit(Transaction([Change(Key("Namespace", "", "x"), value, 0)]))
        with pytest.raises(StoreError, match=r"Namespace x cannot be read.*the release"):
            await Ledger.load(store, ledger._observe)

    with_ledger(tmp_path, scenario)
