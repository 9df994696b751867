"""This node's keys, made here and never leaving, and what there is to know of certificates.

Runs as a short-lived child (``python -m nodeagent.pki``) because the crypto library's memory would
otherwise stay in the agent for ever.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import msgspec

from meshapi.errors import HopliteError


class KeyRequest(msgspec.Struct, frozen=True):
    """Make a key at ``key_path`` if there is none, and a CSR for ``name`` with it."""

    key_path: str
    name: str


class KeyReply(msgspec.Struct, frozen=True):
    csr: str


class ValidityReply(msgspec.Struct, frozen=True):
    """Seconds since the epoch."""

    not_before: float
    not_after: float


async def make_csr(key_path: Path, name: str) -> str:
    """A CSR (PEM) with the key at ``key_path``, which is made if it is not there."""
    request = msgspec.json.encode(KeyRequest(str(key_path), name))
    reply = await child("nodeagent.pki", request, "csr")
    return msgspec.json.decode(reply, type=KeyReply).csr


async def validity(certificate: Path) -> ValidityReply:
    """From when until when a certificate file (PEM) is valid."""
    reply = await child("nodeagent.pki", str(certificate).encode(), "validity")
    return msgspec.json.decode(reply, type=ValidityReply)


async def child(module: str, request: bytes, *words: str) -> bytes:
    """Run a module as a child process: its answer to a request."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(request)
    if process.returncode != 0:
        lines = err.decode(errors="replace").strip().splitlines()
        raise HopliteError(f"key or certificate: {lines[-1] if lines else process.returncode}")
    return out


def write_private(path: Path, text: str) -> None:
    """Replace a file that only its owner may read, atomically."""
    unfinished = path.with_name(path.name + ".new")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def _csr(raw: bytes) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    request = msgspec.json.decode(raw, type=KeyRequest)
    path = Path(request.key_path)
    if not path.exists():
        made = ec.generate_private_key(ec.SECP256R1())
        text = made.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        write_private(path, text.decode())
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise HopliteError("not a P-256 key", where=str(path), fix="remove it; a new one is made")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, request.name)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    pem = csr.public_bytes(serialization.Encoding.PEM).decode()
    return msgspec.json.encode(KeyReply(pem))


def _validity(raw: bytes) -> bytes:
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(Path(raw.decode()).read_bytes())
    return msgspec.json.encode(
        ValidityReply(
            certificate.not_valid_before_utc.timestamp(),
            certificate.not_valid_after_utc.timestamp(),
        )
    )


def main() -> int:
    work = {"csr": _csr, "validity": _validity}[sys.argv[1]]
    sys.stdout.buffer.write(work(sys.stdin.buffer.read()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
