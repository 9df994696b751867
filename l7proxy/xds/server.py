"""The ADS server: Envoy's gRPC streams on a unix socket, translated for ``Ads``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from grpclib.const import Cardinality, Handler
from grpclib.exceptions import StreamTerminatedError
from grpclib.server import Server

from l7proxy.xds import protos
from l7proxy.xds.ads import Ads
from l7proxy.xds.types import TYPE_OF_URL, Request, Response

log = logging.getLogger(__name__)

_METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
_REQUEST = "envoy.service.discovery.v3.DeltaDiscoveryRequest"
_RESPONSE = "envoy.service.discovery.v3.DeltaDiscoveryResponse"


class AdsServer:
    """Serves ``ads`` at ``path``; a socket left there by a former process is replaced.

    ``is_current`` tells by its node's metadata whether an Envoy is the one we want now.
    """

    def __init__(
        self, ads: Ads, path: Path, is_current: Callable[[Mapping[str, str]], bool]
    ) -> None:
        self._ads = ads
        self._path = path
        self._is_current = is_current
        self._server = Server([self])

    async def start(self) -> None:
        self._path.unlink(missing_ok=True)
        await self._server.start(path=str(self._path))

    async def stop(self) -> None:
        self._server.close()
        await self._server.wait_closed()
        self._path.unlink(missing_ok=True)

    def __mapping__(self) -> Mapping[str, Handler]:
        """What grpclib asks a service for: its methods."""
        request, response = protos.message_class(_REQUEST), protos.message_class(_RESPONSE)
        return {_METHOD: Handler(self._serve, Cardinality.STREAM_STREAM, request, response)}

    async def _serve(self, stream: Any) -> None:
        queue: asyncio.Queue[Response] = asyncio.Queue()
        writer = asyncio.create_task(_write(stream, queue), name="ads-writer")
        try:
            first = await stream.recv_message()
            if first is None:
                return
            fields = first.node.metadata.fields
            current = self._is_current({k: v.string_value for k, v in fields.items()})
            log.debug("Envoy connects", extra={"current": current})
            with self._ads.stream(queue.put_nowait, current=current) as receive:
                message = first
                while message is not None:
                    request = _request(message)
                    if request is not None:
                        receive(request)
                    message = await stream.recv_message()
        except StreamTerminatedError:
            log.info("Envoy's stream ended")
        finally:
            writer.cancel()


async def _write(stream: Any, queue: asyncio.Queue[Response]) -> None:
    while True:
        await stream.send_message(_message(await queue.get()))


def _request(message: Any) -> Request | None:
    kind = TYPE_OF_URL.get(message.type_url)
    if kind is None:
        log.warning("Envoy asks for a type that is not served", extra={"type": message.type_url})
        return None
    if message.HasField("error_detail"):
        log.warning(
            "Envoy refuses", extra={"type": kind.name, "reason": message.error_detail.message}
        )
    return Request(
        kind,
        subscribe=tuple(message.resource_names_subscribe),
        unsubscribe=tuple(message.resource_names_unsubscribe),
        holds=dict(message.initial_resource_versions),
        nonce=message.response_nonce,
        error=message.error_detail.message if message.HasField("error_detail") else "",
    )


def _message(response: Response) -> Any:
    message = protos.message_class(_RESPONSE)(
        type_url=response.kind.url,
        nonce=response.nonce,
        system_version_info=response.nonce,
        removed_resources=response.removed,
    )
    for name, encoded in response.resources.items():
        resource = message.resources.add(name=name, version=encoded.version)
        resource.resource.type_url = response.kind.url
        resource.resource.value = encoded.body
    return message
