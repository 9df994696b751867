"""The private keys, and all that needs them: a short-lived child of the agent.

Run as ``python -m nodeagent.keys.child``: the crypto library's memory would otherwise stay in the
agent, and so would the private keys, which nothing else ever reads. One run does everything for all
peers: X25519, then HKDF-SHA256 (RFC 5869) over both nodes' names and epochs, once per direction.
"""

from __future__ import annotations

import base64
import sys
import time
from pathlib import Path

import msgspec

from meshapi.errors import HopliteError
from nodeagent import pki
from nodeagent.keys.messages import KeyReply, KeyRequest, OwnKey, Pair

KEY_BYTES = 16
_CONTEXT = b"hoplite identity in the SYN, 1"


class _Stored(msgspec.Struct, frozen=True):
    epoch: int
    private: bytes
    made: float


def answer(request: KeyRequest) -> KeyReply:
    """Carry out a request on the file of private keys."""
    path = Path(request.path)
    held = _load(path)
    kept = held
    if request.keep is not None:
        kept = [key for key in kept if key.epoch in request.keep]
    if request.make:
        kept = [*kept, _new(request.make)]
    if kept != held:
        pki.write_private(path, msgspec.json.encode(kept).decode())
    private = {key.epoch: key.private for key in kept}
    return KeyReply(
        keys=tuple(OwnKey(key.epoch, _public(key.private), key.made) for key in kept),
        shared=tuple(_agree(private.get(p.own_epoch), request.node, p) for p in request.pairs),
    )


def direction_key(secret: bytes, sender: tuple[str, int], receiver: tuple[str, int]) -> bytes:
    """The key for SYNs from one node (name and epoch) to another, from what X25519 gave."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    ends = b"".join(
        len(name.encode()).to_bytes(2, "big") + name.encode() + epoch.to_bytes(8, "big")
        for name, epoch in (sender, receiver)
    )
    return HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=_CONTEXT + ends).derive(secret)


def _agree(private: bytes | None, node: str, pair: Pair) -> tuple[bytes, bytes] | None:
    """None for a key that is no point to agree on (RFC 7748, section 6.1), or none of ours."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

    if private is None:
        return None
    try:
        public = X25519PublicKey.from_public_bytes(base64.b64decode(pair.peer_public))
        secret = X25519PrivateKey.from_private_bytes(private).exchange(public)
    except ValueError:
        return None
    own, peer = (node, pair.own_epoch), (pair.peer, pair.peer_epoch)
    return direction_key(secret, own, peer), direction_key(secret, peer, own)


def _new(epoch: int) -> _Stored:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return _Stored(epoch, X25519PrivateKey.generate().private_bytes_raw(), time.time())


def _public(private: bytes) -> str:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    raw = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    return base64.b64encode(raw).decode()


def _load(path: Path) -> list[_Stored]:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return []
    try:
        return msgspec.json.decode(raw, type=list[_Stored])
    except msgspec.DecodeError:
        raise HopliteError(
            "the identity keys cannot be read",
            where=str(path),
            fix="remove the file; new ones are made, and the other nodes told",
        ) from None


def main() -> int:
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=KeyRequest)
    try:
        reply = answer(request)
    except HopliteError as error:
        sys.exit(str(error))
    sys.stdout.buffer.write(msgspec.json.encode(reply))
    return 0


if __name__ == "__main__":
    sys.exit(main())
