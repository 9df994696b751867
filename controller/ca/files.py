"""The CA on disk: ``ca.pem`` (public), ``ca.key`` (0600), and the key pair of the API's port."""

from __future__ import annotations

import datetime as dt
import os
import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from controller.ca.authority import (
    SERVER_LIFETIME,
    Authority,
    certificate_pem,
    key_pem,
    make_authority,
    read_authority,
    trust_domain_of,
)
from meshapi.errors import ConfigError, HopliteError


def load_authority(directory: Path, trust_domain: str) -> Authority:
    """The CA of ``directory``; made at the first start, never replaced by itself."""
    certificate, key = directory / "ca.pem", directory / "ca.key"
    if not certificate.exists() and not key.exists():
        authority = make_authority(trust_domain, _now())
        write_private(key, key_pem(authority.key))
        write_public(certificate, authority.pem)
        return authority
    try:
        authority = read_authority(certificate.read_text(), key.read_text())
    except (OSError, HopliteError) as error:
        raise ConfigError(
            f"the CA cannot be read: {error}",
            where=str(directory),
            fix="put ca.pem and ca.key back from a backup; every node trusts this CA only",
        ) from error
    found = trust_domain_of(authority.certificate)
    if found != trust_domain:
        raise ConfigError(
            f"the CA was made for trust domain {found!r}, the configuration says {trust_domain!r}",
            where=str(certificate),
            fix=f"write trustDomain: {found}, or start with another stateDir",
        )
    return authority


class ServerCertificate:
    """The API port's certificate: a fresh one at each start and again at half its life."""

    renew_after = SERVER_LIFETIME / 2

    def __init__(self, directory: Path, authority: Authority, names: Sequence[str]) -> None:
        self._directory = directory
        self._authority = authority
        self._names = names
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.context.verify_mode = ssl.CERT_OPTIONAL
        self.context.load_verify_locations(cadata=authority.pem)
        self.renew()

    def renew(self) -> None:
        """Make a new key pair; connections from now on use it."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._authority.issue_server(key.public_key(), self._names, _now())
        path = self._directory / "server.pem"
        write_private(path, key_pem(key) + certificate_pem(certificate))
        self.context.load_cert_chain(path)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read; it is whole or not there."""
    _write(path, text, 0o600)


def write_public(path: Path, text: str) -> None:
    _write(path, text, 0o644)


def _write(path: Path, text: str, mode: int) -> None:
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)
