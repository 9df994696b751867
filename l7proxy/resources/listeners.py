"""The listener for redirected connections (LDS): one filter chain per service port."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from l7proxy.resources.access_log import file_log
from l7proxy.resources.names import ADS, Json, any_of, port_name, stat_name
from l7proxy.state import ProxiedPort
from meshapi import nodecontract

OUTBOUND = "outbound"

_HTTP = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = "envoy.extensions.filters.http.router.v3.Router"
_REQUEST_ID = "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig"
_ORIGINAL_DST = "envoy.extensions.filters.listener.original_dst.v3.OriginalDst"
_NOBODY: Json = {"address_prefix": "255.255.255.255", "prefix_len": 32}  # none would mean RFC 1918
_IDLE_TIMEOUT = "3600s"  # long polls and WebSockets are the application's business


def outbound(chains: Iterable[Any], *, ipv6: bool) -> Json:
    """The listener that the agent redirects to.

    There is no default chain: what was not redirected matches none and is closed. Nobody else can
    share the port (no reuse_port). The agent may add the addresses after Envoy has started
    (freebind). ``chains`` are ``filter_chain`` values or their serialised form.
    """
    hosts = [nodecontract.PROXY_ADDRESS4, nodecontract.PROXY_HOST_ADDRESS4]
    if ipv6:
        hosts += [nodecontract.PROXY_ADDRESS6, nodecontract.PROXY_HOST_ADDRESS6]
    first, *others = [_address(host) for host in hosts]
    return {
        "name": OUTBOUND,
        "stat_prefix": OUTBOUND,
        "traffic_direction": "OUTBOUND",
        "address": first,
        "additional_addresses": [{"address": other} for other in others],
        "freebind": True,
        "enable_reuse_port": False,
        "listener_filters": [
            {"name": "envoy.filters.listener.original_dst", "typed_config": any_of(_ORIGINAL_DST)}
        ],
        "filter_chains": list(chains),
    }


def filter_chain(port: ProxiedPort, access_log_path: str) -> Json:
    """What takes the connections to one service port.

    It names its routes but does not hold them, so that a route change never touches the listener
    (and so no connection).
    """
    return {
        "name": port_name(port.ref),
        "filter_chain_match": {
            "destination_port": port.ref.port,
            "prefix_ranges": [
                {"address_prefix": a, "prefix_len": ipaddress.ip_address(a).max_prefixlen}
                for a in port.addresses
            ],
        },
        "filters": [
            {
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": _http_connection_manager(port, access_log_path),
            }
        ],
    }


def _http_connection_manager(port: ProxiedPort, access_log_path: str) -> Json:
    """HTTP/1.1 and HTTP/2 as transparent as Envoy can be.

    The application's forwarding headers stay as they are: the peer address is an identity, not a
    place, and must not be told to the backend (no use_remote_address, no X-Forwarded-For append, no
    address is "internal").
    """
    return any_of(
        _HTTP,
        stat_prefix=stat_name(port.ref),
        rds={"route_config_name": port_name(port.ref), "config_source": ADS},
        http_filters=[
            {
                "name": "envoy.filters.http.router",
                "typed_config": any_of(_ROUTER, suppress_envoy_headers=True),
            }
        ],
        access_log=[file_log(access_log_path)],
        upgrade_configs=[{"upgrade_type": "websocket"}],
        use_remote_address=False,
        skip_xff_append=True,
        internal_address_config={"cidr_ranges": [_NOBODY]},
        preserve_external_request_id=True,
        request_id_extension={
            "typed_config": any_of(
                _REQUEST_ID, pack_trace_reason=False, use_request_id_for_trace_sampling=False
            )
        },
        server_header_transformation="PASS_THROUGH",
        proxy_100_continue=True,
        normalize_path=True,
        merge_slashes=True,
        stream_idle_timeout=_IDLE_TIMEOUT,
        common_http_protocol_options={"idle_timeout": _IDLE_TIMEOUT},
        http_protocol_options={
            "accept_http_10": True,
            "default_host_for_http_10": f"{port.ref.name}.{port.ref.namespace}",
        },
    )


def _address(host: str) -> Json:
    return {"socket_address": {"address": host, "port_value": nodecontract.PROXY_OUTBOUND_PORT}}
