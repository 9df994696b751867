"""How this node becomes and stays a member of the mesh: token once, then its own certificate."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from pathlib import Path

import aiohttp

from meshapi import jointoken, wire
from meshapi.client import ApiClient, server_tls
from meshapi.errors import ConfigError, HopliteError, UnavailableError
from meshapi.resources import MeshNodeSpec
from nodeagent import pki
from nodeagent.config import AgentConfig

_log = logging.getLogger(__name__)

_RETRY_SECONDS = 2.0
_RENEW_RETRY_SECONDS = 60.0


class Membership:
    """This node's key, certificate and CA, in the state directory."""

    def __init__(self, config: AgentConfig) -> None:
        self._config = config
        folder = Path(config.state_dir)
        self._key = folder / "agent.key"
        self._certificate = folder / "agent.pem"
        self._ca = folder / "ca.pem"

    def client(self) -> ApiClient:
        """A client that shows this node's certificate; there is none before the node has joined."""
        if not self.joined:
            raise UnavailableError("this node has not joined the mesh yet", fix="try again")
        context = server_tls(self._ca.read_text(encoding="utf-8"))
        context.load_cert_chain(self._certificate, self._key)
        return ApiClient(self._config.controller, context)

    @property
    def joined(self) -> bool:
        return all(p.exists() for p in (self._key, self._certificate, self._ca))

    async def join(self) -> None:
        """Join with the one-time token; waits for a controller that cannot be reached."""
        token = self._token()
        while True:
            try:
                await self._join(token)
            except UnavailableError as error:
                _log.warning("cannot join yet", extra={"error": str(error)})
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                _log.info("joined", extra={"node": self._config.node_name})
                return

    async def renew_for_ever(self) -> None:
        """Renew the certificate at half of its life."""
        while True:
            dates = await pki.validity(self._certificate)
            half = dates.not_before + (dates.not_after - dates.not_before) / 2
            await asyncio.sleep(max(0.0, half - time.time()))
            try:
                await self._renew()
            except HopliteError as error:
                _log.error("certificate not renewed", extra={"error": str(error)})
                await asyncio.sleep(_RENEW_RETRY_SECONDS)

    async def sign(self, request: wire.CertificateRequest) -> wire.CertificateReply:
        """Have a certificate signed for a component of this node."""
        path = wire.node_path(self._config.node_name, "certificates")
        async with self.client() as client:
            return await client.call(path, request, wire.CertificateReply)

    async def _renew(self) -> None:
        csr = await pki.make_csr(self._key, self._config.node_name)
        reply = await self.sign(wire.CertificateRequest(component="agent", csr=csr))
        self._store(reply)
        _log.info("certificate renewed")

    async def _join(self, token: jointoken.JoinToken) -> None:
        ca = await _fetch_ca(self._config.controller)
        jointoken.check_ca(token, ca)
        csr = await pki.make_csr(self._key, self._config.node_name)
        request = wire.JoinRequest(
            token=str(token),
            node=self._config.node_name,
            spec=MeshNodeSpec(
                addresses=self._config.addresses, proxy_addresses=self._config.proxy_addresses
            ),
            csr=csr,
            labels=self._config.node_labels,
        )
        async with ApiClient(self._config.controller, server_tls(ca)) as client:
            self._store(await client.call(wire.JOIN_PATH, request, wire.CertificateReply))

    def _store(self, reply: wire.CertificateReply) -> None:
        pki.write_private(self._ca, reply.ca)
        pki.write_private(self._certificate, reply.certificate)

    def _token(self) -> jointoken.JoinToken:
        text = self._config.join_token
        if not text and self._config.join_token_file:
            try:
                text = Path(self._config.join_token_file).read_text(encoding="utf-8")
            except OSError as error:
                raise ConfigError(
                    f"cannot read the join token: {error.strerror}",
                    where=self._config.join_token_file,
                    fix="write the output of `hopctl token create` there",
                ) from error
        if not text:
            raise ConfigError(
                "this node has not joined and has no token",
                where="joinToken",
                fix=f"set it to the output of `hopctl token create --node "
                f"{self._config.node_name}`",
            )
        return jointoken.parse(text)


async def _fetch_ca(server: str) -> str:
    """The controller's CA, over a connection not trusted yet; the token says if it is the one."""
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    timeout = aiohttp.ClientTimeout(total=10)
    url = server.rstrip("/") + wire.CA_PATH
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, ssl=unverified) as response,
        ):
            if response.status != 200:
                raise UnavailableError(f"HTTP {response.status}", where=url)
            return await response.text()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise UnavailableError(
            f"the controller does not answer: {error or type(error).__name__}",
            where=url,
            fix="check the address and that hoplite-controller runs",
        ) from error
