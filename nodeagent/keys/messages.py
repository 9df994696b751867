"""What the agent and its child say to each other about keys. Pure; loads fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import msgspec


class OwnKey(msgspec.Struct, frozen=True):
    """One of this node's keys: the public half, base64; ``made`` is in seconds since the epoch."""

    epoch: int
    public: str
    made: float


class Pair(NamedTuple):
    """One of this node's keys and one of another's: an agreement of X25519."""

    own_epoch: int
    peer: str
    peer_epoch: int
    peer_public: str


@dataclass(frozen=True)
class Shared:
    """What comes of a pair: a key of 16 bytes for each direction."""

    send: bytes
    receive: bytes

    def __repr__(self) -> str:
        return "Shared(…)"


class KeyRequest(msgspec.Struct, frozen=True):
    """Make a key of epoch ``make`` (0: none), forget all but it and ``keep`` (None: nothing),
    and agree on ``pairs``.
    """

    path: str
    node: str
    make: int = 0
    keep: tuple[int, ...] | None = None
    pairs: tuple[Pair, ...] = ()


class KeyReply(msgspec.Struct, frozen=True):
    """The public halves of what is held now, and for each pair what came of it (send, receive)."""

    keys: tuple[OwnKey, ...]
    shared: tuple[tuple[bytes, bytes] | None, ...] = ()
