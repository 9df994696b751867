"""How Envoy's resources, statistics and log entries are named after ours."""

from __future__ import annotations

from typing import Any

from meshapi.resources import HTTPRoute
from meshapi.wire import ServicePortRef

Json = dict[str, Any]

ADS: Json = {"ads": {}, "resource_api_version": "V3"}


def any_of(message: str, **fields: Any) -> Json:
    """An extension's configuration: its message type and fields."""
    return {"@type": f"type.googleapis.com/{message}", **fields}


def port_name(ref: ServicePortRef) -> str:
    """The name of a service port's filter chain, route configuration and cluster."""
    return f"{ref.namespace}/{ref.name}:{ref.port}"


def stat_name(ref: ServicePortRef) -> str:
    """``port_name`` for statistics, where Envoy would turn the colon into an underscore."""
    return f"{ref.namespace}/{ref.name}/{ref.port}"


def rule_name(route: HTTPRoute, rule: int) -> str:
    """A rule of a route as the access log names it, e.g. ``shop/web[0]``."""
    return f"{route.metadata.namespace}/{route.metadata.name}[{rule}]"


def parse_port_name(name: str) -> ServicePortRef:
    """The service port behind a ``port_name``."""
    service, _, port = name.rpartition(":")
    namespace, _, short = service.partition("/")
    return ServicePortRef(namespace=namespace, name=short, port=int(port))
