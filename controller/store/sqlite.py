"""The store in one SQLite file: an append-only log whose rowid is the revision, and the objects.

All access runs in one thread, in order. ``synchronous=FULL`` with WAL: a commit that returned is on
disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

from controller.errors import ExpiredError, StoreError
from controller.store.base import (
    Change,
    Contents,
    Entry,
    LogEntry,
    LogRange,
    Spending,
    Token,
    Transaction,
)
from meshapi.errors import ConflictError, UnauthorizedError
from meshapi.identity import WorkloadIdentity
from meshapi.resources import Key

T = TypeVar("T")

_VERSION = 1  # PRAGMA user_version; counts the layouts below
_COMPACT_EVERY = 256  # revisions

_SCHEMA = """
CREATE TABLE log (
    revision  INTEGER PRIMARY KEY AUTOINCREMENT,
    kind      TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name      TEXT NOT NULL,
    action    TEXT NOT NULL,
    value     BLOB NOT NULL,
    previous  BLOB
);
CREATE TABLE objects (
    kind      TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name      TEXT NOT NULL,
    revision  INTEGER NOT NULL,
    value     BLOB NOT NULL,
    PRIMARY KEY (kind, namespace, name)
) WITHOUT ROWID;
CREATE TABLE identities (
    number          INTEGER PRIMARY KEY,
    trust_domain    TEXT NOT NULL,
    namespace       TEXT NOT NULL,
    service_account TEXT NOT NULL,
    UNIQUE (trust_domain, namespace, service_account)
);
CREATE TABLE tokens (
    id      TEXT PRIMARY KEY,
    purpose TEXT NOT NULL,
    hash    BLOB NOT NULL,
    node    TEXT NOT NULL,
    expires REAL NOT NULL
);
"""


class SqliteStore:
    """A ``Store`` in one file; ``history`` is how many log rows are kept for watches."""

    def __init__(self, path: Path, history: int) -> None:
        self._path = path
        self._history = history
        self._compacted_at = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._db: sqlite3.Connection

    @classmethod
    async def open(cls, path: Path, history: int) -> SqliteStore:
        """Open or create the file; a damaged or foreign one is refused."""
        store = cls(path, history)
        try:
            await store._run(store._open)
        except StoreError:
            store._thread.shutdown()
            raise
        return store

    async def load(self) -> Contents:
        return await self._run(self._load)

    async def commit(self, transaction: Transaction) -> int:
        return await self._run(lambda: self._commit(transaction))

    async def changes_after(self, revision: int, kind: str, limit: int) -> LogRange:
        return await self._run(lambda: self._changes_after(revision, kind, limit))

    async def put_token(self, token: Token, now: float) -> None:
        await self._run(lambda: self._put_token(token, now))

    async def tokens(self, purpose: Literal["admin", "join"]) -> Sequence[Token]:
        return await self._run(lambda: self._tokens(purpose))

    async def close(self) -> None:
        await self._run(self._db.close)
        self._thread.shutdown()

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            raise StoreError(
                f"the store cannot be used: {error}",
                where=str(self._path),
                fix="check disk space, permissions and the file; nothing was written",
            ) from error

    # -- in the store's thread -----------------------------------------------------------------

    def _open(self) -> None:
        try:
            self._path.touch(mode=0o600)  # its WAL gets the same mode
        except OSError as error:
            raise StoreError(
                f"the store cannot be opened: {error.strerror}",
                where=str(self._path),
                fix="let this user read and write it",
            ) from error
        self._db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            verdict = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise StoreError(
                f"the store is damaged or not a store: {error}",
                where=str(self._path),
                fix="put a backup there, or move the file away to start with an empty mesh",
            ) from error
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            self._db.executescript(
                f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version={_VERSION}; COMMIT;"
            )
        elif version != _VERSION:
            self._db.close()
            raise StoreError(
                f"its layout is version {version}, this controller reads {_VERSION}",
                where=str(self._path),
                fix="start the release of hoplite-controller that wrote it",
            )

    def _load(self) -> Contents:
        entries = [
            Entry(Key(kind, namespace, name), revision, value)
            for kind, namespace, name, revision, value in self._db.execute(
                "SELECT kind, namespace, name, revision, value FROM objects"
            )
        ]
        identities = {
            WorkloadIdentity(trust_domain, namespace, account): number
            for number, trust_domain, namespace, account in self._db.execute(
                "SELECT number, trust_domain, namespace, service_account FROM identities"
            )
        }
        return Contents(self._newest(), entries, identities)

    def _commit(self, transaction: Transaction) -> int:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            if transaction.spend:
                self._spend(transaction.spend)
            for identity, number in transaction.identities.items():
                self._db.execute(
                    "INSERT INTO identities VALUES (?, ?, ?, ?)",
                    (number, identity.trust_domain, identity.namespace, identity.service_account),
                )
            first = self._newest() + 1
            for change in transaction.changes:
                self._write(change)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self._compact()
        return first

    def _write(self, change: Change) -> None:
        where = (change.key.kind, change.key.namespace, change.key.name)
        found = self._db.execute(
            "SELECT revision, value FROM objects WHERE kind=? AND namespace=? AND name=?", where
        ).fetchone()
        revision, previous = found or (0, None)
        if revision != change.expected:
            raise ConflictError(
                f"{change.key} has been changed (version {revision}, not {change.expected})",
                fix="read it again and repeat the change",
            )
        if change.value is None:
            action, value = "DELETED", previous
            self._db.execute("DELETE FROM objects WHERE kind=? AND namespace=? AND name=?", where)
        else:
            action, value = ("MODIFIED" if found else "ADDED"), change.value
        cursor = self._db.execute(
            "INSERT INTO log (kind, namespace, name, action, value, previous) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (*where, action, value, previous),
        )
        if change.value is not None:
            self._db.execute(
                "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)",
                (*where, cursor.lastrowid, change.value),
            )

    def _spend(self, spending: Spending) -> None:
        found = self._db.execute(
            "DELETE FROM tokens WHERE id=? AND purpose='join' AND hash=? AND expires>? "
            "RETURNING node",
            (spending.id, spending.hash, spending.now),
        ).fetchall()
        if not found:
            raise UnauthorizedError(
                "the join token is unknown, used already, or has expired",
                where="token",
                fix=f"make another with `hopctl token create --node {spending.node}`",
            )
        if found[0][0] != spending.node:
            raise UnauthorizedError(
                f"the join token was made for node {found[0][0]}, not {spending.node}",
                where="token",
                fix=f"make one with `hopctl token create --node {spending.node}`",
            )

    def _compact(self) -> None:
        newest = self._newest()
        if newest - self._compacted_at >= _COMPACT_EVERY:
            self._db.execute("DELETE FROM log WHERE revision <= ?", (newest - self._history,))
            self._compacted_at = newest

    def _changes_after(self, revision: int, kind: str, limit: int) -> LogRange:
        newest = self._newest()
        oldest = self._db.execute("SELECT MIN(revision) FROM log").fetchone()[0] or newest + 1
        if not oldest - 1 <= revision <= newest:
            raise ExpiredError(
                f"changes after version {revision} are not kept (from {oldest - 1} to {newest})",
                fix="list again and watch from the version of that list",
            )
        rows = self._db.execute(
            "SELECT revision, namespace, name, action, value, previous FROM log "
            "WHERE revision > ? AND kind = ? ORDER BY revision LIMIT ?",
            (revision, kind, limit),
        ).fetchall()
        entries = [
            LogEntry(row[0], Key(kind, row[1], row[2]), row[3], row[4], row[5]) for row in rows
        ]
        return LogRange(entries, entries[-1].revision if len(entries) == limit else newest)

    def _put_token(self, token: Token, now: float) -> None:
        self._db.execute("DELETE FROM tokens WHERE purpose='join' AND expires<=?", (now,))
        self._db.execute(
            "INSERT OR REPLACE INTO tokens VALUES (?, ?, ?, ?, ?)",
            (token.id, token.purpose, token.hash, token.node, token.expires),
        )

    def _tokens(self, purpose: str) -> list[Token]:
        return [
            Token(*row)
            for row in self._db.execute(
                "SELECT id, purpose, hash, node, expires FROM tokens WHERE purpose=?", (purpose,)
            )
        ]

    def _newest(self) -> int:
        """The last revision given; it outlives the log row that had it."""
        found = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name='log'").fetchone()
        return int(found[0]) if found else 0
