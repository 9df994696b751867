"""What this node shares with every other one: which keys are needed, and as map entries. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from meshapi.resources import IdentityKey
from nodeagent.desired.addresses import node_number
from nodeagent.keys.messages import Pair, Shared
from nodeagent.layout import KEY_RECEIVING, KEY_SENDING, NODE_KEY, NODE_KEY_ID
from nodeagent.state import NodeState

Peers = Mapping[str, tuple[IdentityKey, ...]]


def peers(state: NodeState) -> Peers:
    """The other nodes that have keys, and these; without those that identities cannot cross to.

    Two nodes with one number (one pair in four billion) could be taken for each other: neither.
    """
    found = {
        name: node.status.identity_keys
        for name, node in state.nodes.items()
        if name != state.node and node.status.identity_keys and not node.spec.behind_nat
    }
    numbers = Counter(node_number(name) for name in state.nodes)
    return {name: keys for name, keys in found.items() if numbers[node_number(name)] == 1}


def pairs(own: Iterable[int], known: Peers) -> Iterator[Pair]:
    """Every pair of which a SYN may tell: each of our epochs with each key of each peer."""
    for epoch in own:
        for name, keys in known.items():
            for key in keys:
                yield Pair(epoch, name, key.epoch, key.public_key)


def entries(shared: Mapping[Pair, Shared | None], sending: int, known: Peers) -> dict[bytes, bytes]:
    """The map node_keys; ``sending`` is the epoch of our key to send with, 0 for none yet.

    Of a peer's keys the first is in use; pairs that nothing came of are left out.
    """
    found: dict[bytes, bytes] = {}
    for pair, both in shared.items():
        if both is None:
            continue
        number = node_number(pair.peer)
        epochs = _epochs(pair.peer_epoch, pair.own_epoch)
        found[NODE_KEY_ID.pack(number, KEY_RECEIVING, epochs)] = NODE_KEY.pack(both.receive, epochs)
        in_use = known[pair.peer][0]
        if pair.own_epoch == sending and pair.peer_epoch == in_use.epoch:
            epochs = _epochs(pair.own_epoch, pair.peer_epoch)
            found[NODE_KEY_ID.pack(number, KEY_SENDING, 0)] = NODE_KEY.pack(both.send, epochs)
    return found


def _epochs(sender: int, receiver: int) -> int:
    """How a SYN names the two keys: no two of three epochs in a row end in the same two bits."""
    return (sender & 3) << 2 | (receiver & 3)
