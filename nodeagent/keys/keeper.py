"""Keeps this node's keys young, the other nodes told, and the kernel's shared keys right."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from meshapi.errors import HopliteError
from meshapi.resources import IdentityKey
from nodeagent import pki
from nodeagent.datapath.node_keys import NodeKeys
from nodeagent.keys import ring
from nodeagent.keys.messages import KeyReply, KeyRequest, OwnKey, Pair, Shared
from nodeagent.keys.pairs import Peers, entries, pairs, peers
from nodeagent.state import NodeState

_log = logging.getLogger(__name__)

_TICK_SECONDS = 1.0
_RETRY_SECONDS = 10.0


@dataclass(frozen=True)
class Standing:
    """How things are, without any secret: ``sending`` is the epoch of the key in use, 0 for none;
    ``peers`` are the nodes that keys are shared with.
    """

    on: bool = False
    epochs: tuple[int, ...] = ()
    sending: int = 0
    peers: tuple[str, ...] = ()


class Keeper:
    """``wanted`` is the setting; ``on_publish`` is called when ``published`` has changed, and
    ``on_standing`` when identities in SYNs can be looked at, or cannot any more.
    """

    def __init__(
        self,
        path: Path,
        seconds: float,
        node_keys: NodeKeys,
        state: Callable[[], NodeState],
        *,
        wanted: bool,
        on_publish: Callable[[], None],
        on_standing: Callable[[bool], None],
    ) -> None:
        self._path = path
        self._seconds = seconds
        self._node_keys = node_keys
        self._state = state
        self._wanted = wanted
        self._on_publish = on_publish
        self._on_standing = on_standing
        self._wake = asyncio.Event()
        self._held: tuple[OwnKey, ...] | None = None
        self._seen: ring.Seen | None = None
        self._shared: dict[Pair, Shared | None] = {}
        self._written: dict[bytes, bytes] | None = None
        self._done: tuple[object, ring.Step] | None = None  # nodes and keys of the last pass
        self.published: tuple[IdentityKey, ...] | None = None  # None: not known yet
        self.standing: Standing | None = None

    def look(self) -> None:
        """Nodes, or their keys, may have changed."""
        self._wake.set()

    async def run(self) -> None:
        """Look whenever told to, and as time goes by."""
        while True:
            pause = _TICK_SECONDS
            try:
                await self._pass()
            except (HopliteError, OSError) as error:
                _log.error("identity keys not in order", extra={"error": str(error)})
                pause = _RETRY_SECONDS
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                continue
            self._wake.clear()

    async def _pass(self) -> None:
        state = self._state()
        own = state.nodes.get(state.node)
        if not self._wanted or (own is not None and own.spec.behind_nat):
            self._done = None
            self._publish(())
            self._write({})
            self._stand(Standing())
            return
        if own is None:
            return  # nothing is known yet
        step = await self._step(state, own.status.identity_keys)
        if self._done is not None and self._done[0] is state.nodes and self._done[1] == step:
            return
        self._done = None
        known = peers(state)
        await self._agree(state.node, step.order, known)
        self._write(entries(self._shared, step.sending, known))
        self._publish(tuple(ring.published(key) for key in step.order))
        epochs = tuple(key.epoch for key in step.order)
        self._stand(Standing(True, epochs, step.sending, tuple(sorted(known))))
        self._done = (state.nodes, step)

    async def _step(self, state: NodeState, listed: tuple[IdentityKey, ...]) -> ring.Step:
        """What our own keys are to be; when this returns they are that."""
        if self._held is None:
            self._held = (await _ask(KeyRequest(str(self._path), state.node))).keys
        step = self._next(self._held, listed)
        order = {key.epoch for key in step.order}
        if step.make or order != {key.epoch for key in self._held}:
            request = KeyRequest(str(self._path), state.node, step.make, tuple(order))
            self._held = (await _ask(request)).keys
            _log.info(
                "identity keys changed",
                extra={"made": step.make, "epochs": [key.epoch for key in self._held]},
            )
            step = self._next(self._held, listed)
        return step

    def _next(self, held: tuple[OwnKey, ...], listed: tuple[IdentityKey, ...]) -> ring.Step:
        now, wall = time.monotonic(), time.time()
        self._seen = ring.seen(self._seen, held, listed, now=now, wall=wall)
        return ring.step(held, listed, self._seen, seconds=self._seconds, now=now, wall=wall)

    async def _agree(self, node: str, own: tuple[OwnKey, ...], known: Peers) -> None:
        """Have every pair agreed on, and forget the others."""
        wanted = set(pairs((key.epoch for key in own), known))
        self._shared = {pair: both for pair, both in self._shared.items() if pair in wanted}
        missing = tuple(sorted(wanted - self._shared.keys()))
        if not missing:
            return
        started = time.monotonic()
        reply = await _ask(KeyRequest(str(self._path), node, pairs=missing))
        results = (None if both is None else Shared(*both) for both in reply.shared)
        agreed = dict(zip(missing, results, strict=True))
        self._shared |= agreed
        useless = sorted({pair.peer for pair, both in agreed.items() if both is None})
        if useless:
            _log.error("identity keys that cannot be agreed on", extra={"nodes": useless})
        seconds = round(time.monotonic() - started, 3)
        _log.info("identity keys agreed on", extra={"pairs": len(missing), "seconds": seconds})

    def _write(self, wanted: dict[bytes, bytes]) -> None:
        if wanted != self._written:
            self._written = None
            self._node_keys.make_equal(wanted)
            self._written = wanted

    def _publish(self, keys: tuple[IdentityKey, ...]) -> None:
        if keys != self.published:
            self.published = keys
            self._on_publish()

    def _stand(self, standing: Standing) -> None:
        before, self.standing = self.standing, standing
        if before is None or standing.on != before.on:
            self._on_standing(standing.on)


async def _ask(request: KeyRequest) -> KeyReply:
    raw = await pki.child("nodeagent.keys.child", msgspec.json.encode(request))
    return msgspec.json.decode(raw, type=KeyReply)
