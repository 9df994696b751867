"""The state in memory and the only way to change it: decide on it, commit, then show it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from controller.admission import Plan
from controller.errors import StoreError
from controller.pulse import Pulse
from controller.state import ROOT_NAMESPACE, State
from controller.store.base import Change, Entry, Spending, Store, Transaction
from meshapi import codec
from meshapi.resources import Key, Resource
from meshapi.resources.registry import KINDS

_TYPES = {kind.name: kind.type for kind in KINDS}

Decide = Callable[[State], Plan]


@dataclass(frozen=True)
class Outcome:
    """A plan that has been written; ``objects`` are the admitted ones as they now stand."""

    plan: Plan
    revision: int
    objects: tuple[Resource, ...]
    dry: bool = False


class Ledger:
    """One writer at a time; readers take ``state`` whenever they like."""

    def __init__(self, store: Store, state: State, observe: Callable[[float], None]) -> None:
        self._store = store
        self._state = state
        self._observe = observe
        self._writing = asyncio.Lock()
        self._pulse = Pulse()
        self._pending: set[asyncio.Task[Outcome]] = set()

    @classmethod
    async def load(
        cls, store: Store, observe: Callable[[float], None], root_namespace: str = ROOT_NAMESPACE
    ) -> Ledger:
        """Everything the store holds; ``observe`` is told how long each commit takes (seconds)."""
        contents = await store.load()
        objects = {entry.key: _resource(entry) for entry in contents.entries}
        state = State(identities=contents.identities, root_namespace=root_namespace)
        return cls(store, state.with_changes(objects, revision=contents.revision), observe)

    @property
    def state(self) -> State:
        return self._state

    async def write(self, decide: Decide, *, spend: Spending | None = None) -> Outcome:
        """Decide on the newest state and write the plan; refusals come out of ``decide``.

        The write is finished even if the caller is cancelled meanwhile, so that memory never lags
        behind the store.
        """
        task = asyncio.create_task(self._write(decide, spend), name="ledger-write")
        self._pending.add(task)
        task.add_done_callback(self._written)
        return await asyncio.shield(task)

    def preview(self, decide: Decide) -> Outcome:
        """What ``write`` would do, without doing it."""
        plan = decide(self._state)
        return Outcome(plan, self._state.revision, plan.admitted, dry=True)

    async def changed(self, since: int) -> None:
        """Return once the state is newer than revision ``since``."""
        while self._state.revision <= since:
            await self._pulse.beyond(self._pulse.count)

    async def drain(self) -> None:
        """Wait until every write that has begun is finished."""
        await asyncio.gather(*self._pending, return_exceptions=True)

    def _written(self, task: asyncio.Task[Outcome]) -> None:
        self._pending.discard(task)
        if not task.cancelled():
            task.exception()  # the caller has it; if that has gone, nobody needs to hear of it

    async def _write(self, decide: Decide, spend: Spending | None) -> Outcome:
        async with self._writing:
            plan = decide(self._state)
            if not plan.writes and spend is None:
                return Outcome(plan, self._state.revision, plan.admitted)
            started = time.perf_counter()
            first = await self._store.commit(_transaction(plan, spend))
            self._observe(time.perf_counter() - started)
            changes = {
                write.key: write.new and _versioned(write.new, first + i)
                for i, write in enumerate(plan.writes)
            }
            self._state = self._state.with_changes(
                changes,
                revision=first + len(plan.writes) - 1,
                identities=plan.identities,
            )
        self._pulse.beat()
        return Outcome(plan, self._state.revision, _as_they_stand(self._state, plan))


def _transaction(plan: Plan, spend: Spending | None) -> Transaction:
    changes = [
        Change(
            key=write.key,
            value=codec.encode_json(_versioned(write.new, None)) if write.new else None,
            expected=int(write.old.metadata.resource_version) if write.old else 0,
        )
        for write in plan.writes
    ]
    return Transaction(changes, plan.identities, spend)


def _as_they_stand(state: State, plan: Plan) -> tuple[Resource, ...]:
    keys = [Key(r.kind, r.metadata.namespace, r.metadata.name) for r in plan.admitted]
    return tuple(
        state.get(key) or admitted for key, admitted in zip(keys, plan.admitted, strict=True)
    )


def _versioned(resource: Resource, revision: int | None) -> Resource:
    version = "" if revision is None else str(revision)
    versioned: Resource = replace(
        resource, metadata=replace(resource.metadata, resource_version=version)
    )
    return versioned


def _resource(entry: Entry) -> Resource:
    try:
        resource: Resource = msgspec.json.decode(entry.value, type=_TYPES[entry.key.kind])
    except (msgspec.ValidationError, KeyError) as error:
        raise StoreError(
            f"{entry.key} cannot be read: {error}",
            where="store",
            fix="start the release of hoplite-controller that wrote it",
        ) from error
    return _versioned(resource, entry.revision)
