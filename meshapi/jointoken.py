"""A node's one-time join token: ``hop1.<id>.<secret>.<sha256 of the CA's DER>``, all hexadecimal.

The controller keeps only a hash of the secret. The last part lets an agent that knows nothing but
the token check the CA it fetches over a connection it cannot trust yet.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass

from meshapi.errors import HopliteError

_TOKEN = re.compile(r"hop1\.([0-9a-f]{16})\.([0-9a-f]{32})\.([0-9a-f]{64})")
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True)
class JoinToken:
    """``id`` names the token, ``secret`` proves it, ``ca`` pins the mesh's CA."""

    id: str
    secret: str
    ca: str

    def __str__(self) -> str:
        return f"hop1.{self.id}.{self.secret}.{self.ca}"

    @property
    def secret_hash(self) -> bytes:
        """What the controller stores in place of the secret."""
        return hashlib.sha256(self.secret.encode()).digest()


def parse(text: str) -> JoinToken:
    """Read a token as a person pasted it; anything else is refused without repeating it."""
    match = _TOKEN.fullmatch(text.strip())
    if match is None:
        raise HopliteError(
            "not a join token",
            where="token",
            fix="paste the whole line that `hopctl token create --node NAME` printed",
        )
    return JoinToken(match[1], match[2], match[3])


def fingerprint(ca_pem: str) -> str:
    """SHA-256 (hexadecimal) of the DER of the one certificate in ``ca_pem``."""
    blocks = _PEM.findall(ca_pem)
    if len(blocks) != 1:
        raise HopliteError(f"{len(blocks)} certificates where one is expected", where="CA")
    try:
        der = base64.b64decode("".join(blocks[0].split()), validate=True)
    except binascii.Error as error:
        raise HopliteError(f"not PEM: {error}", where="CA") from error
    return hashlib.sha256(der).hexdigest()


def check_ca(token: JoinToken, ca_pem: str) -> None:
    """Refuse a CA that is not the one the token was made for."""
    if not hmac.compare_digest(fingerprint(ca_pem), token.ca):
        raise HopliteError(
            "the controller's CA is not the one this token was made for",
            where="CA",
            fix="check the controller's address; somebody may be in between, or the token is old",
        )
