"""The state directory: one controller at a time, and the first admin's token."""

from __future__ import annotations

import fcntl
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controller.access import hash_token
from controller.ca.files import write_private
from controller.store.base import Store, Token
from meshapi.errors import ConfigError


@contextmanager
def claimed(directory: Path) -> Iterator[Path]:
    """Make the directory if need be and keep other controllers out of it."""
    try:
        (directory / "ca").mkdir(parents=True, exist_ok=True)
        lock = (directory / "lock").open("w")
    except OSError as error:
        raise ConfigError(
            f"the state directory cannot be used: {error.strerror}",
            where=str(directory),
            fix="create it for this user, or set stateDir",
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                "another hoplite-controller uses this state directory",
                where=str(directory),
                fix="stop it, or set another stateDir",
            ) from error
        yield directory


async def admin_hashes(directory: Path, store: Store) -> frozenset[bytes]:
    """The hashes of the admins' tokens; the first start makes one and leaves it in admin.token.

    If the file is there it says what the token is: write another into it and restart to change it.
    Without the file the hash in the store goes on counting.
    """
    path = directory / "admin.token"
    known = await store.tokens("admin")
    try:
        token = path.read_text().strip()
    except FileNotFoundError:
        if known:
            return frozenset(t.hash for t in known)
        token = secrets.token_hex(32)
        write_private(path, token + "\n")
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path)) from error
    if len(token) < 32:
        raise ConfigError(
            "an admin's token has at least 32 characters",
            where=str(path),
            fix="write one with `openssl rand -hex 32`, or delete the file",
        )
    await store.put_token(Token("admin", "admin", hash_token(token)), time.time())
    return frozenset([hash_token(token)])
