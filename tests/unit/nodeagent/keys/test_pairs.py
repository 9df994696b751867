"""Which keys a node shares with whom, and what they look like in the kernel."""

from __future__ import annotations

import pytest

from meshapi.manifests import parse
from meshapi.resources import IdentityKey, key_of
from meshapi.watch import Snapshot
from nodeagent.desired.addresses import node_number
from nodeagent.keys import pairs as module
from nodeagent.keys.messages import Pair, Shared
from nodeagent.keys.pairs import entries, pairs, peers
from nodeagent.layout import KEY_RECEIVING, KEY_SENDING, NODE_KEY, NODE_KEY_ID
from nodeagent.state import NodeState, build


def nodes(text: str) -> NodeState:
    return build("n1", Snapshot(1, {key_of(o): o for o in (m.resource for m in parse(text, "m"))}))


def node(name: str, keys: str = "", spec: str = "") -> str:
    return f"""
---
apiVersion: mesh.hoplite.io/v1alpha1
kind: MeshNode
metadata: {{name: {name}}}
spec: {{{spec}}}
status: {{identityKeys: [{keys}]}}
"""


ONE = "{epoch: 1, publicKey: one}"
TWO = "{epoch: 2, publicKey: two}"


def test_every_other_node_with_keys_is_a_peer() -> None:
    state = nodes(node("n1", ONE) + node("n2", f"{TWO}, {ONE}") + node("n3"))
    assert peers(state) == {
        "n2": (IdentityKey(epoch=2, public_key="two"), IdentityKey(epoch=1, public_key="one"))
    }


def test_a_node_behind_nat_is_none() -> None:
    assert not peers(nodes(node("n1", ONE) + node("n2", ONE, "behindNAT: true")))


def test_two_nodes_that_the_kernel_could_not_tell_apart_are_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "node_number", {"n1": 1, "n2": 7, "n3": 7, "n4": 4}.get)
    state = nodes(node("n1", ONE) + node("n2", ONE) + node("n3") + node("n4", ONE))
    assert peers(state).keys() == {"n4"}


def test_every_key_of_ours_meets_every_key_of_theirs() -> None:
    known = {"n2": (IdentityKey(epoch=5, public_key="x"), IdentityKey(epoch=4, public_key="y"))}
    assert list(pairs((1, 2), known)) == [
        Pair(1, "n2", 5, "x"),
        Pair(1, "n2", 4, "y"),
        Pair(2, "n2", 5, "x"),
        Pair(2, "n2", 4, "y"),
    ]


def test_all_are_accepted_and_one_is_sent_with() -> None:
    known = {"n2": (IdentityKey(epoch=5, public_key="x"), IdentityKey(epoch=4, public_key="y"))}
    shared = {
        pair: Shared(bytes([i]) * 16, bytes([128 + i]) * 16)
        for i, pair in enumerate(pairs((1, 2), known))
    }
    number = node_number("n2")
    found = {
        NODE_KEY_ID.unpack(key): NODE_KEY.unpack(value)
        for key, value in entries(shared, 2, known).items()
    }
    # of a SYN that comes, the sender is n2; of one that goes, it is this node
    assert found == {
        (number, KEY_RECEIVING, 0b0101): (bytes([128]) * 16, 0b0101),
        (number, KEY_RECEIVING, 0b0001): (bytes([129]) * 16, 0b0001),
        (number, KEY_RECEIVING, 0b0110): (bytes([130]) * 16, 0b0110),
        (number, KEY_RECEIVING, 0b0010): (bytes([131]) * 16, 0b0010),
        (number, KEY_SENDING, 0): (bytes([2]) * 16, 0b1001),
    }
    kinds = [NODE_KEY_ID.unpack(key)[1] for key in entries(shared, 0, known)]
    assert KEY_SENDING not in kinds, "no key to send with yet"


def test_a_key_that_nothing_could_be_agreed_with_is_left_out() -> None:
    known = {"n2": (IdentityKey(epoch=1, public_key="x"),)}
    assert entries({Pair(1, "n2", 1, "x"): None}, 1, known) == {}


def test_a_key_does_not_show_itself() -> None:
    assert "8" not in repr(Shared(b"8" * 16, b"8" * 16)).replace("Shared", "")
