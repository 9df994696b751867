"""The kinds of Envoy resource that we serve, and what goes over an ADS stream. No I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from l7proxy.xds import protos

SILENCE_SECONDS = 5.0  # so long without a word from Envoy means that it will not acknowledge
SILENCE = f"Envoy did not acknowledge it within {SILENCE_SECONDS:g} s"


class Type(StrEnum):
    """A kind of resource; the value is its message's full name."""

    CLUSTER = "envoy.config.cluster.v3.Cluster"
    ENDPOINTS = "envoy.config.endpoint.v3.ClusterLoadAssignment"
    LISTENER = "envoy.config.listener.v3.Listener"
    ROUTES = "envoy.config.route.v3.RouteConfiguration"

    @property
    def url(self) -> str:
        return protos.TYPE_PREFIX + self.value

    @property
    def wildcard(self) -> bool:
        """Whether Envoy asks for all of them at once rather than by name."""
        return self in (Type.CLUSTER, Type.LISTENER)


TYPE_OF_URL = {t.url: t for t in Type}


@dataclass(frozen=True, slots=True)
class Encoded:
    """A resource ready to be sent; equal content has an equal version, also after a restart."""

    version: str
    body: bytes


def encode(kind: Type, value: Mapping[str, Any]) -> Encoded:
    body = protos.encode(kind.value, value)
    return Encoded(hashlib.blake2b(body, digest_size=8).hexdigest(), body)


@dataclass(frozen=True, slots=True)
class Request:
    """What Envoy says on its stream: a subscription, an ACK, or a NACK (``error``)."""

    kind: Type
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    holds: Mapping[str, str] = field(default_factory=dict)  # name to version, on a new stream
    nonce: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """What we send: new or changed resources by name, and the names of removed ones."""

    kind: Type
    nonce: str
    resources: Mapping[str, Encoded]
    removed: tuple[str, ...] = ()
