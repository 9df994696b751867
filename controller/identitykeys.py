"""A node's public keys for identities in SYNs: its agent's word, checked and stored. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from controller.admission import Write
from controller.state import State
from meshapi.errors import Problem
from meshapi.resources import IdentityKey, key_of

MOST_KEYS = 3  # the one in use, the one before and the one to come
KEY_BYTES = 32

# Rotation changes them a few times a day; a node that does it all the time is slowed down, because
# every other node follows. What is held back comes with its next report.
KEYS_BURST = 4
KEYS_EVERY = 5.0


def problems(keys: Sequence[IdentityKey]) -> Iterator[Problem]:
    """What is wrong with the keys of a report."""
    if len(keys) > MOST_KEYS:
        yield Problem("$.identityKeys", f"{len(keys)} keys", f"at most {MOST_KEYS}")
    first: dict[int, int] = {}
    for i, key in enumerate(keys):
        at = f"$.identityKeys[{i}]"
        if first.setdefault(key.epoch, i) != i:
            yield Problem(f"{at}.epoch", f"{key.epoch} stands there twice", "count keys upwards")
        if not _is_key(key.public_key):
            yield Problem(
                f"{at}.publicKey", "not an X25519 public key", f"{KEY_BYTES} bytes in base64"
            )


def changes(state: State, node: str, keys: Sequence[IdentityKey]) -> Iterator[Write]:
    """What a node's own keys change in its MeshNode."""
    old = state.node(node)
    if old is not None and old.status.identity_keys != tuple(keys):
        status = replace(old.status, identity_keys=tuple(keys))
        yield Write(key_of(old), old, replace(old, status=status))


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == KEY_BYTES
    except (binascii.Error, ValueError):
        return False
