"""A backend as an Envoy cluster (CDS)."""

from __future__ import annotations

import ipaddress
from typing import Final

from l7proxy.resources.names import ADS, Json, any_of, port_name, stat_name
from l7proxy.state import Backend

_CONNECT_TIMEOUT = "2s"
# Shorter than the keep-alive of common servers, so that Envoy closes an idle connection first and
# does not send a request on one that the server is just closing.
_IDLE_TIMEOUT = "30s"
_NO_LIMIT = 2**32 - 1

_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_UNSPECIFIED: Final = {4: "0.0.0.0", 6: "::"}
_IPPROTO_IP = 0
_IP_BIND_ADDRESS_NO_PORT = 24


def cluster(backend: Backend, source_addresses: tuple[str, ...]) -> Json:
    """The cluster of ``backend``; the mesh adds no limit of its own to connections or requests."""
    value: Json = {
        "name": port_name(backend.ref),
        "alt_stat_name": stat_name(backend.ref),
        "type": "EDS",
        "eds_cluster_config": {"eds_config": ADS},
        "connect_timeout": _CONNECT_TIMEOUT,
        "lb_policy": "LEAST_REQUEST",
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": _NO_LIMIT,
                    "max_pending_requests": _NO_LIMIT,
                    "max_requests": _NO_LIMIT,
                    "max_retries": _NO_LIMIT,
                }
            ]
        },
        "typed_extension_protocol_options": {_OPTIONS: _protocol(backend.http2)},
    }
    if source_addresses:
        value["upstream_bind_config"] = _bind(source_addresses)
    return value


def _protocol(http2: bool) -> Json:
    version = "http2_protocol_options" if http2 else "http_protocol_options"
    return any_of(
        _OPTIONS,
        common_http_protocol_options={"idle_timeout": _IDLE_TIMEOUT},
        explicit_http_config={version: {}},
    )


def _bind(source_addresses: tuple[str, ...]) -> Json:
    """Dial from the node proxy's own addresses; for a family without one, the kernel picks.

    The source port is chosen at connect, so that ports are limited per backend, not in all.
    """
    by_family: dict[int, str] = dict(_UNSPECIFIED)
    by_family.update((ipaddress.ip_address(a).version, a) for a in source_addresses)
    return {
        "source_address": {"address": by_family[4], "port_value": 0},
        "extra_source_addresses": [{"address": {"address": by_family[6], "port_value": 0}}],
        "socket_options": [
            {
                "description": "IP_BIND_ADDRESS_NO_PORT",
                "level": _IPPROTO_IP,
                "name": _IP_BIND_ADDRESS_NO_PORT,
                "int_value": 1,
                "state": "STATE_PREBIND",
            }
        ],
    }
