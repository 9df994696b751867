"""Our key, made here and never leaving; its certificate, signed through the agent and renewed."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from l7proxy.backoff import Backoff
from l7proxy.files import write_atomically
from meshapi.client import server_tls
from meshapi.errors import HopliteError
from meshapi.wire import CertificateReply

log = logging.getLogger(__name__)

Sign = Callable[[str], Awaitable[CertificateReply]]


@dataclass(frozen=True)
class _Validity:
    begins: dt.datetime
    ends: dt.datetime

    @property
    def half(self) -> dt.datetime:
        return self.begins + (self.ends - self.begins) / 2


class Credentials:
    """Key, certificate and CA below ``directory``; ``run`` keeps the certificate fresh."""

    def __init__(self, directory: Path, node: str, sign: Sign) -> None:
        self._key_path = directory / "key.pem"
        self._certificate_path = directory / "certificate.pem"
        self._ca_path = directory / "ca.pem"
        self._node = node
        self._sign = sign
        self._key = self._load_key() or self._make_key()
        self._validity = self._load_validity()
        self._doubted = asyncio.Event()
        self._usable = asyncio.Event()
        if self._validity and self._validity.ends > _now():
            self._usable.set()

    @property
    def expires(self) -> float:
        """When the certificate ends, in seconds since the epoch; 0 if there is none."""
        return self._validity.ends.timestamp() if self._validity else 0.0

    async def tls(self) -> ssl.SSLContext:
        """TLS to the controller with our certificate; waits until there is one that is valid."""
        await self._usable.wait()
        context = server_tls(self._ca_path.read_text())
        context.load_cert_chain(self._certificate_path, self._key_path)
        return context

    def doubt(self) -> None:
        """Have it signed anew soon: the controller may have another CA than when it was signed."""
        self._doubted.set()

    async def run(self) -> None:
        """Have the key's certificate signed now if need be, then whenever half its life is over."""
        backoff = Backoff(0.05, 10.0)
        while True:
            left = self._validity.half - _now() if self._validity else dt.timedelta()
            if left > dt.timedelta() and not self._doubted.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left.total_seconds()):
                        await self._doubted.wait()
            try:
                await self._renew()
                backoff.reset()
            except HopliteError as error:
                log.warning("no new certificate", extra={"reason": str(error)})
                if self._validity and self._validity.ends <= _now():
                    self._usable.clear()
                await backoff.pause()

    async def _renew(self) -> None:
        reply = await self._sign(self._request())
        validity = _validity(reply.certificate.encode(), self._key)
        if validity is None:
            raise HopliteError("the certificate that came back is not for our key")
        write_atomically(self._ca_path, reply.ca.encode())
        write_atomically(self._certificate_path, reply.certificate.encode())
        self._validity = validity
        self._doubted.clear()
        self._usable.set()
        log.info("certificate signed", extra={"expires": validity.ends.isoformat()})

    def _request(self) -> str:
        """A CSR in PEM; the name in it is a hint, the signer decides."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"l7proxy {self._node}"[:64])])
        csr = x509.CertificateSigningRequestBuilder().subject_name(name)
        return (
            csr.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
        )

    def _load_key(self) -> ec.EllipticCurvePrivateKey | None:
        if not self._key_path.exists():
            return None
        try:
            key = serialization.load_pem_private_key(self._key_path.read_bytes(), None)
        except (ValueError, TypeError) as error:
            log.warning(
                "the key on disk cannot be read; making another", extra={"reason": str(error)}
            )
            return None
        return key if isinstance(key, ec.EllipticCurvePrivateKey) else None

    def _make_key(self) -> ec.EllipticCurvePrivateKey:
        key = ec.generate_private_key(ec.SECP256R1())
        text = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        write_atomically(self._key_path, text)
        return key

    def _load_validity(self) -> _Validity | None:
        if not self._certificate_path.exists() or not self._ca_path.exists():
            return None
        return _validity(self._certificate_path.read_bytes(), self._key)


def _validity(pem: bytes, key: ec.EllipticCurvePrivateKey) -> _Validity | None:
    """When the certificate holds, or None if it is none of ``key``."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        log.warning("the certificate cannot be read", extra={"reason": str(error)})
        return None
    if certificate.public_key() != key.public_key():
        return None
    return _Validity(certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
