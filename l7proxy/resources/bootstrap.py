"""What Envoy is started with: where its configuration comes from, and its own limits."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import msgspec

from l7proxy.resources.names import ADS, Json, any_of
from l7proxy.resources.stats import stats_config

_ADS_CLUSTER = "ads"
_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_OWNER_ONLY = 0o600


@dataclass(frozen=True)
class BootstrapOptions:
    """What differs from node to node. ``max_connections`` counts those of applications."""

    node: str
    ads_socket: str
    admin_socket: str
    max_heap_bytes: int
    max_connections: int


def bootstrap(options: BootstrapOptions) -> Json:
    """Everything else comes from l7proxy over delta ADS on a unix socket."""
    return {
        "node": {"id": options.node, "cluster": "hoplite"},
        "admin": {"address": {"pipe": {"path": options.admin_socket, "mode": _OWNER_ONLY}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": _ads_service()}],
            },
            "lds_config": ADS,
            "cds_config": ADS,
        },
        "static_resources": {"clusters": [_ads_cluster(options.ads_socket)]},
        "stats_config": stats_config(),
        "cluster_manager": {"enable_deferred_cluster_creation": True},
        "deferred_stat_options": {"enable_deferred_creation_stats": True},
        "overload_manager": _overload(options),
        "application_log_config": {
            "log_format": {
                "json_format": {
                    "time": "%Y-%m-%dT%T.%e",
                    "level": "%l",
                    "logger": "%n",
                    "message": "%j",
                }
            }
        },
    }


def bootstrap_text(value: Json) -> str:
    return msgspec.json.encode(value).decode()


def fingerprint(value: Json) -> str:
    """Tells one bootstrap from another; part of its file's name, by which Envoy is recognised."""
    return hashlib.blake2b(bootstrap_text(value).encode(), digest_size=8).hexdigest()


def _ads_service() -> Json:
    return {
        "cluster_name": _ADS_CLUSTER,
        "retry_policy": {"retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"}},
    }


def _ads_cluster(socket: str) -> Json:
    return {
        "name": _ADS_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": _ADS_CLUSTER,
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": socket}}}}]}
            ],
        },
        "typed_extension_protocol_options": {
            _OPTIONS: any_of(_OPTIONS, explicit_http_config={"http2_protocol_options": {}})
        },
    }


def _overload(options: BootstrapOptions) -> Json:
    """Near its heap limit Envoy gives memory back, then refuses, before it would be killed."""
    heap = "envoy.resource_monitors.fixed_heap"
    connections = "envoy.resource_monitors.global_downstream_max_connections"
    return {
        "resource_monitors": [
            {
                "name": heap,
                "typed_config": any_of(
                    "envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
                    max_heap_size_bytes=options.max_heap_bytes,
                ),
            },
            {
                "name": connections,
                "typed_config": any_of(
                    "envoy.extensions.resource_monitors.downstream_connections.v3"
                    ".DownstreamConnectionsConfig",
                    max_active_downstream_connections=options.max_connections,
                ),
            },
        ],
        "actions": [
            _action("shrink_heap", heap, 0.9),
            _action("disable_http_keepalive", heap, 0.95),
            _action("stop_accepting_requests", heap, 0.98),
        ],
    }


def _action(name: str, monitor: str, at: float) -> Json:
    return {
        "name": f"envoy.overload_actions.{name}",
        "triggers": [{"name": monitor, "threshold": {"value": at}}],
    }
