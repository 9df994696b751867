"""HTTP client of the controller: resources, apply, feed, reports, channel and flows.

The one module of this package that does I/O.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from urllib.parse import urlencode

import aiohttp
import msgspec

from meshapi import codec, wire
from meshapi.errors import (
    ConflictError,
    ForbiddenError,
    HopliteError,
    InvalidError,
    NotFoundError,
    Problem,
    UnauthorizedError,
    UnavailableError,
)
from meshapi.flow import FlowQuery
from meshapi.resources.registry import Kind, Resource, kind_of

T = TypeVar("T")

_LINE_LIMIT = 32 * 1024 * 1024  # a feed line holds one object; larger ones are refused
_ERRORS: dict[int, type[HopliteError]] = {
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    429: UnavailableError,
    503: UnavailableError,
}


def server_tls(ca_pem: str | None) -> ssl.SSLContext:
    """TLS that trusts exactly the mesh's own CA (or, with None, the system's)."""
    context = ssl.create_default_context(cadata=ca_pem)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


@dataclass(frozen=True)
class Listing:
    """Objects of a kind, and the version of the store at which they were so."""

    version: str
    items: list[Resource]


@dataclass(frozen=True)
class WatchEvent:
    """One change of a watched object; a deletion carries it as it last was."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: Resource


class ApiClient:
    """One session with a controller: ``token`` for admins, a certificate in ``tls`` for nodes."""

    def __init__(self, server: str, tls: ssl.SSLContext, *, token: str = "") -> None:
        self._server = server.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, limit=0),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=30, sock_connect=5),
            read_bufsize=_LINE_LIMIT,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._session.close()

    # -- resources -----------------------------------------------------------------------------

    async def list_all(self, kind: Kind, namespace: str = "") -> list[Resource]:
        """All objects of a kind, of one namespace or of every one."""
        return (await self.listing(kind, namespace)).items

    async def listing(self, kind: Kind, namespace: str = "", selector: str = "") -> Listing:
        """``list_all`` with its version, to watch from; ``selector`` chooses by labels."""
        value = await self._call("GET", kind.path(namespace) + _query(labelSelector=selector))
        items = [codec.decode({**_gvk(kind), **item}) for item in value["items"]]
        return Listing(value["metadata"]["resourceVersion"], items)

    async def watch(
        self, kind: Kind, namespace: str = "", selector: str = "", *, version: str = ""
    ) -> AsyncIterator[WatchEvent]:
        """What is there (ADDED), then every change; with ``version`` the changes after it only."""
        query = _query(watch="1", labelSelector=selector, resourceVersion=version)
        async for line in self._lines(kind.path(namespace) + query, None):
            event = codec.parse_json(line)
            if event["type"] == "ERROR":
                raise HopliteError(event["object"].get("message", "the watch has ended"))
            yield WatchEvent(event["type"], codec.decode({**_gvk(kind), **event["object"]}))

    async def get(self, kind: Kind, namespace: str, name: str) -> Resource:
        return codec.decode(await self._call("GET", kind.path(namespace, name)))

    async def create(self, resource: Resource) -> Resource:
        kind = kind_of(resource)
        path = kind.path(resource.metadata.namespace)
        return codec.decode(await self._call("POST", path, codec.encode(resource)))

    async def replace(self, resource: Resource) -> Resource:
        kind, meta = kind_of(resource), resource.metadata
        path = kind.path(meta.namespace, meta.name)
        return codec.decode(await self._call("PUT", path, codec.encode(resource)))

    async def delete(self, kind: Kind, namespace: str, name: str) -> None:
        await self._call("DELETE", kind.path(namespace, name))

    async def enforcement(self, revision: int) -> AsyncIterator[wire.EnforcementReply]:
        """Which nodes have put ``revision`` into force: a line on every change, until all have."""
        path = wire.ENFORCEMENT_PATH + _query(revision=revision)
        async for line in self._lines(path, None):
            yield codec.convert(codec.parse_json(line), wire.EnforcementReply, "enforcement")

    async def apply(self, resources: list[Resource], *, dry_run: bool = False) -> wire.ApplyReply:
        """Create or replace all of ``resources`` in one transaction, or none of them."""
        request = wire.ApplyRequest(
            objects=tuple(codec.encode(r) for r in resources), dry_run=dry_run
        )
        return await self.call(wire.APPLY_PATH, request, wire.ApplyReply)

    # -- nodes ---------------------------------------------------------------------------------

    async def call(self, path: str, request: msgspec.Struct, to: type[T]) -> T:
        """POST one message and read the typed answer."""
        value = await self._call("POST", path, codec.encode(request))
        return codec.convert(value, to, path)

    async def server_version(self) -> str:
        """The controller's own version."""
        return str((await self._call("GET", "/version")).get("hopliteVersion", "unknown"))

    async def report(self, node: str, report: wire.NodeReport) -> None:
        await self._call("PUT", wire.node_path(node, "report"), codec.encode(report))

    async def feed(self, node: str, component: str, *, quiet: float = 45.0) -> AsyncIterator[bytes]:
        """The node's feed, line by line; ends or raises when the controller goes away.

        ``quiet`` is how many seconds without a line (PING included) mean that it has.
        """
        path = wire.node_path(node, "feed") + _query(component=component)
        async for line in self._lines(path, quiet):
            yield line

    @asynccontextmanager
    async def channel(self, node: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """The websocket over which the controller queries this node."""
        url = self._server + wire.node_path(node, "channel")
        try:
            async with self._session.ws_connect(url, heartbeat=15, max_msg_size=0) as socket:
                yield socket
        except aiohttp.ClientError as error:
            raise self._unreachable(error) from error

    # -- flows ---------------------------------------------------------------------------------

    async def flows(self, query: FlowQuery) -> AsyncIterator[wire.FlowsReply]:
        """Flows of every node, oldest first, then one line that says what the answer covers."""
        async for line in self._lines(wire.FLOWS_PATH + _query(**codec.encode(query)), None):
            yield codec.convert(codec.parse_json(line), wire.FlowsReply, "flows")

    # -- plumbing ------------------------------------------------------------------------------

    async def _lines(self, path: str, quiet: float | None) -> AsyncIterator[bytes]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=quiet)
        try:
            async with self._session.get(self._server + path, timeout=timeout) as response:
                if response.status >= 400:
                    raise await _refusal(response)
                async for line in response.content:
                    if line.strip():
                        yield line
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError) as error:
            raise self._unreachable(error) from error

    async def _call(self, method: str, path: str, body: Any = None) -> Any:
        payload = None if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": "application/json"} if payload else {}
        try:
            async with self._session.request(
                method, self._server + path, data=payload, headers=headers
            ) as response:
                if response.status >= 400:
                    raise await _refusal(response)
                return codec.parse_json(await response.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> UnavailableError:
        detail = str(error) or type(error).__name__
        return UnavailableError(
            f"the controller does not answer: {detail}",
            where=self._server,
            fix="check that hoplite-controller runs and that the address is right",
        )


def _query(**parameters: Any) -> str:
    """A URL's query from the parameters that are given."""
    given = {k: v for k, v in parameters.items() if v not in ("", None)}
    return f"?{urlencode(given)}" if given else ""


def _gvk(kind: Kind) -> dict[str, str]:
    return {"apiVersion": kind.api_version, "kind": kind.name}


async def _refusal(response: aiohttp.ClientResponse) -> HopliteError:
    """The error behind a Kubernetes ``Status`` answer (or behind whatever a proxy sent)."""
    text = await response.text()
    try:
        status = msgspec.json.decode(text)
    except msgspec.DecodeError:
        status = None
    if not isinstance(status, dict):
        return HopliteError(f"HTTP {response.status}: {text[:200]}", where=str(response.url))
    details = status.get("details") or {}
    causes = details.get("causes") or []
    if response.status == 422 and causes:
        problems = [Problem(c.get("field", "$"), c.get("message", "")) for c in causes]
        subject = f"{details.get('kind') or ''} {details.get('name') or ''}".strip()
        return InvalidError(subject or "request", problems)
    kind = _ERRORS.get(response.status, HopliteError)
    return kind(status.get("message") or f"HTTP {response.status}")
