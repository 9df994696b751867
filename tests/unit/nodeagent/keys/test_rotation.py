"""Many nodes rotate at their own times, hear of each other late, restart and are cut off.

Whatever happens, a tag that a node would write now is one that its peer accepts now.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from meshapi.resources import IdentityKey
from nodeagent.desired.addresses import node_number
from nodeagent.keys import ring
from nodeagent.keys.messages import OwnKey, Pair, Shared
from nodeagent.keys.pairs import Peers, entries, pairs
from nodeagent.layout import KEY_RECEIVING, KEY_SENDING, NODE_KEY, NODE_KEY_ID

PERIOD = 60.0  # seconds; a key is known for 30 before it is used
LATEST = 4  # ticks that news take at most; less than the 5 s for which a first key is published
LONGEST_ABSENCE = 20  # ticks for which a node may be cut off from the controller
WALL = 1_800_000_000.0
Lists = dict[str, tuple[IdentityKey, ...]]


def agree(node: str, pair: Pair) -> Shared:
    """As X25519 and HKDF: the same at both ends, another for every pair of keys and direction."""

    def one_way(*ends: object) -> bytes:
        return hashlib.sha256(repr(ends).encode()).digest()[:16]

    own, peer = (node, pair.own_epoch), (pair.peer, pair.peer_epoch)
    return Shared(one_way(own, peer), one_way(peer, own))


@dataclass
class Node:
    """The ring of one node, its view of all lists, and its kernel's table."""

    name: str
    joins: int = 0  # at which tick
    held: tuple[OwnKey, ...] = ()
    seen: ring.Seen | None = None
    table: dict[bytes, bytes] = field(default_factory=dict)

    def look(self, view: Lists, now: float) -> tuple[IdentityKey, ...]:
        """A pass of nodeagent/keys/keeper.py; what it publishes."""
        found = self._step(view, now)
        if found.make:
            made = OwnKey(found.make, f"{self.name} {found.make}", WALL + now)
            self.held = (*found.order, made)
            found = self._step(view, now)
        self.held = found.order
        known: Peers = {n: keys for n, keys in view.items() if n != self.name and keys}
        epochs = (key.epoch for key in found.order)
        shared = {pair: agree(self.name, pair) for pair in pairs(epochs, known)}
        self.table = entries(shared, found.sending, known)
        return tuple(ring.published(key) for key in found.order)

    @property
    def sends(self) -> int:
        """To how many it sends."""
        return sum(NODE_KEY_ID.unpack(key)[1] == KEY_SENDING for key in self.table)

    def restart(self) -> None:
        self.seen = None

    def lose_keys(self) -> None:
        self.held, self.seen = (), None

    def _step(self, view: Lists, now: float) -> ring.Step:
        listed = view.get(self.name, ())
        when = {"now": now, "wall": WALL + now}
        self.seen = ring.seen(self.seen, self.held, listed, **when)
        return ring.step(self.held, listed, self.seen, seconds=PERIOD, **when)


@dataclass
class Mesh:
    """Nodes, and the controller's lists as they were at every tick."""

    nodes: list[Node]
    history: list[Lists] = field(default_factory=lambda: [{}])

    def tick(self, lags: list[int], absent: set[int]) -> None:
        now = float(len(self.history))
        lists = dict(self.history[-1])
        for i, node in enumerate(self.nodes):
            view = self.history[max(0, len(self.history) - 1 - lags[i])]
            if now < node.joins:
                continue
            keys = node.look(view, now)
            if i not in absent:
                lists[node.name] = keys
        self.history.append(lists)

    def refused(self) -> Iterator[str]:
        """Tags that their receivers would not take."""
        for sender in self.nodes:
            for receiver in self.nodes:
                key = NODE_KEY_ID.pack(node_number(receiver.name), KEY_SENDING, 0)
                if sender is receiver or key not in sender.table:
                    continue
                value = sender.table[key]
                _, epochs = NODE_KEY.unpack(value)
                wanted = NODE_KEY_ID.pack(node_number(sender.name), KEY_RECEIVING, epochs)
                if receiver.table.get(wanted) != value:
                    yield f"{sender.name} to {receiver.name} ({epochs:04b})"


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1 << 32))
def test_no_tag_is_refused_while_everybody_rotates(seed: int) -> None:
    rolls = random.Random(seed)  # noqa: S311 - a simulation
    mesh = Mesh([Node(f"n{i}", rolls.randrange(int(PERIOD))) for i in range(3)])
    lags, absent_until = [0, 0, 0], [0, 0, 0]
    for tick in range(400):
        for i in range(3):
            if tick < absent_until[i]:
                lags[i] += 1  # its view stands still
            else:
                lags[i] = min(lags[i] + 1, rolls.randrange(LATEST))
                if tick > PERIOD + 20 and rolls.random() < 0.02:
                    absent_until[i] = tick + 1 + rolls.randrange(LONGEST_ABSENCE)
            if rolls.random() < 0.01:
                mesh.nodes[i].restart()
        mesh.tick(lags, {i for i in range(3) if tick < absent_until[i]})
        assert not list(mesh.refused()), tick
        if tick > PERIOD + 20:
            assert all(node.sends == 2 for node in mesh.nodes), "to everybody, always"
    for node in mesh.nodes:
        assert max(key.epoch for key in node.held) >= 3, "it has rotated"
        assert len(node.held) <= 3


def test_a_node_that_lost_its_keys_is_believed_again_when_others_have_heard() -> None:
    mesh = Mesh([Node("n0"), Node("n1")])
    for _ in range(20):
        mesh.tick([1, 1], set())
    assert not list(mesh.refused())
    mesh.nodes[0].lose_keys()
    for _ in range(4):
        mesh.tick([1, 1], set())
    for _ in range(20):
        mesh.tick([1, 1], set())
        assert not list(mesh.refused())
    assert [key.epoch for key in mesh.nodes[0].held] == [2]
    assert NODE_KEY_ID.pack(node_number("n1"), KEY_SENDING, 0) in mesh.nodes[0].table
