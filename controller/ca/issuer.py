"""Issues certificates and one-time join tokens."""

from __future__ import annotations

import datetime as dt
import secrets
from typing import Literal

from cryptography import x509

from controller.ca.authority import Authority, certificate_pem, read_csr
from controller.metrics import Metrics
from controller.store.base import Spending, Store, Token
from meshapi import jointoken
from meshapi.identity import component_uri
from meshapi.jointoken import JoinToken
from meshapi.wire import CertificateReply, JoinTokenReply

Component = Literal["agent", "l7proxy"]


class Issuer:
    """The CA at work for one trust domain."""

    def __init__(
        self,
        authority: Authority,
        store: Store,
        metrics: Metrics,
        trust_domain: str,
        lifetime: dt.timedelta,
    ) -> None:
        self._authority = authority
        self._store = store
        self._metrics = metrics
        self._trust_domain = trust_domain
        self._lifetime = lifetime

    @property
    def ca(self) -> str:
        """The CA's certificate, PEM."""
        return self._authority.pem

    def issue(self, component: Component, node: str, csr: str) -> CertificateReply:
        """Sign the key of a CSR for a node's component; its names are ours, not the CSR's."""
        return self.sign(component, node, read_csr(csr))

    def sign(
        self, component: Component, node: str, csr: x509.CertificateSigningRequest
    ) -> CertificateReply:
        """``issue`` for a CSR that has been checked already."""
        uri = component_uri(self._trust_domain, component, node)
        now = dt.datetime.now(dt.UTC).replace(microsecond=0)
        certificate = self._authority.issue_component(csr, uri, self._lifetime, now)
        self._metrics.certificates.labels(component).inc()
        return CertificateReply(certificate_pem(certificate), self.ca)

    async def make_token(self, node: str, ttl: dt.timedelta) -> JoinTokenReply:
        """A one-time token for a node; only a hash of its secret is kept."""
        now = dt.datetime.now(dt.UTC)
        expires = now + ttl
        token = JoinToken(
            id=secrets.token_hex(8),
            secret=secrets.token_hex(16),
            ca=jointoken.fingerprint(self.ca),
        )
        await self._store.put_token(
            Token(token.id, "join", token.secret_hash, node, expires.timestamp()), now.timestamp()
        )
        shown = expires.isoformat(timespec="seconds").replace("+00:00", "Z")
        return JoinTokenReply(token=str(token), node=node, expires=shown)

    def spending(self, token: str, node: str) -> Spending:
        """The use of a token, to be made in the transaction that it pays for."""
        read = jointoken.parse(token)
        return Spending(read.id, read.secret_hash, node, dt.datetime.now(dt.UTC).timestamp())
