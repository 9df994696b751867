"""What every store offers. SQLite is the first; the protocol asks nothing that etcd cannot give.

A revision counts single object changes. A transaction of several changes takes as many revisions,
one after the other, and becomes visible as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from meshapi.identity import WorkloadIdentity
from meshapi.resources import Key

Action = Literal["ADDED", "MODIFIED", "DELETED"]


@dataclass(frozen=True)
class Change:
    """One object's new value (JSON), or None to delete it.

    ``expected`` is the revision that the object must be at (0: it must not exist); otherwise the
    whole transaction is refused.
    """

    key: Key
    value: bytes | None
    expected: int


@dataclass(frozen=True)
class Token:
    """A secret's hash. A join token belongs to a node and ends; an admin's does neither."""

    id: str
    purpose: Literal["admin", "join"]
    hash: bytes
    node: str = ""
    expires: float = 0.0


@dataclass(frozen=True)
class Spending:
    """A one-time token that a transaction uses up; without it the transaction is refused."""

    id: str
    hash: bytes
    node: str
    now: float


@dataclass(frozen=True)
class Transaction:
    """Everything that is written together or not at all."""

    changes: Sequence[Change] = ()
    identities: Mapping[WorkloadIdentity, int] = field(default_factory=dict)
    spend: Spending | None = None


@dataclass(frozen=True)
class Entry:
    """A current object's stored value and revision."""

    key: Key
    revision: int
    value: bytes


@dataclass(frozen=True)
class Contents:
    """All that a controller needs to start: the newest revision and what is there at it."""

    revision: int
    entries: Sequence[Entry]
    identities: Mapping[WorkloadIdentity, int]


@dataclass(frozen=True)
class LogEntry:
    """One change of the past. A deletion's ``value`` is the object as it last was."""

    revision: int
    key: Key
    action: Action
    value: bytes
    previous: bytes | None


@dataclass(frozen=True)
class LogRange:
    """Changes in order; every change up to ``through`` has been looked at."""

    entries: Sequence[LogEntry]
    through: int


class Store(Protocol):
    """Durable, transactional, with history. Every acknowledged write survives a crash."""

    async def load(self) -> Contents: ...

    async def commit(self, transaction: Transaction) -> int:
        """Write all of it; the revision of the first change is returned, the others follow it.

        Raises ConflictError (an object is not at its expected revision), UnauthorizedError (the
        token to spend is not good) or StoreError.
        """
        ...

    async def changes_after(self, revision: int, kind: str, limit: int) -> LogRange:
        """The kind's changes after ``revision``, at most ``limit``; ExpiredError if compacted."""
        ...

    async def put_token(self, token: Token, now: float) -> None:
        """Keep a token; join tokens that have expired by ``now`` (seconds) are forgotten."""
        ...

    async def tokens(self, purpose: Literal["admin", "join"]) -> Sequence[Token]: ...

    async def close(self) -> None: ...
