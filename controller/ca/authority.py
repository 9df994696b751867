"""Certificates: P-256, SPIFFE URI names, keys of nodes never leave them (CSR only). Pure."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from meshapi.errors import HopliteError, InvalidError, Problem

CA_LIFETIME = dt.timedelta(days=3650)
SERVER_LIFETIME = dt.timedelta(days=90)
CLOCK_SKEW = dt.timedelta(minutes=5)  # how far a node's clock may be behind

PublicKey = ec.EllipticCurvePublicKey
PrivateKey = ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Authority:
    """The mesh's own CA: one certificate and its key."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def pem(self) -> str:
        return certificate_pem(self.certificate)

    def issue_component(
        self,
        csr: x509.CertificateSigningRequest,
        uri: str,
        lifetime: dt.timedelta,
        now: dt.datetime,
    ) -> x509.Certificate:
        """A client certificate for a node's component; only the CSR's key is taken from it."""
        name = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        key = csr.public_key()
        if not isinstance(key, PublicKey):
            raise InvalidError("CSR", [_bad_csr("its key is not P-256")])
        return self._issue(key, name, ExtendedKeyUsageOID.CLIENT_AUTH, lifetime, now)

    def issue_server(
        self, key: PublicKey, names: Iterable[str], now: dt.datetime
    ) -> x509.Certificate:
        """The certificate of the controller's own port, for DNS names and addresses."""
        san = x509.SubjectAlternativeName([_general_name(n) for n in names])
        return self._issue(key, san, ExtendedKeyUsageOID.SERVER_AUTH, SERVER_LIFETIME, now)

    def _issue(
        self,
        key: PublicKey,
        names: x509.SubjectAlternativeName,
        usage: x509.ObjectIdentifier,
        lifetime: dt.timedelta,
        now: dt.datetime,
    ) -> x509.Certificate:
        end = min(now + lifetime, self.certificate.not_valid_after_utc)
        return (
            _builder(key, self.certificate.subject, now - CLOCK_SKEW, end)
            .subject_name(x509.Name([]))
            .add_extension(names, critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
            .sign(self.key, hashes.SHA256())
        )


def make_authority(trust_domain: str, now: dt.datetime) -> Authority:
    """A new CA for a trust domain, whose name it carries (``spiffe://<trust domain>``)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Hoplite CA {trust_domain}"[:64])])
    uri = x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")
    certificate = (
        _builder(key.public_key(), name, now - CLOCK_SKEW, now + CA_LIFETIME)
        .subject_name(name)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def trust_domain_of(certificate: x509.Certificate) -> str:
    """The trust domain that a CA certificate stands for; empty if it names none."""
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    uris = san.get_values_for_type(x509.UniformResourceIdentifier)
    return uris[0].removeprefix("spiffe://") if uris else ""


def read_csr(pem: str) -> x509.CertificateSigningRequest:
    """A CSR whose signature holds and whose key is P-256; anything else is refused."""
    try:
        csr = x509.load_pem_x509_csr(pem.encode())
        key = csr.public_key()
        signed = csr.is_signature_valid
    except (ValueError, TypeError, InvalidSignature) as error:
        raise InvalidError("CSR", [_bad_csr(f"not a PEM certificate request: {error}")]) from error
    if not isinstance(key, PublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InvalidError("CSR", [_bad_csr("its key is not P-256")])
    if not signed:
        raise InvalidError("CSR", [_bad_csr("its signature does not match its key")])
    return csr


def certificate_pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def key_pem(key: PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def read_authority(certificate: str, key: str) -> Authority:
    """A CA from its two PEM texts, which must belong together."""
    try:
        cert = x509.load_pem_x509_certificate(certificate.encode())
        private = serialization.load_pem_private_key(key.encode(), None)
    except (ValueError, TypeError) as error:
        raise HopliteError(f"not a CA certificate and key: {error}") from error
    if not isinstance(private, PrivateKey) or private.public_key() != cert.public_key():
        raise HopliteError("the CA's key does not belong to its certificate")
    return Authority(cert, private)


def _builder(
    key: PublicKey, issuer: x509.Name, start: dt.datetime, end: dt.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _bad_csr(what: str) -> Problem:
    return Problem("$.csr", what, "send a PKCS#10 request in PEM, made with a P-256 key")
