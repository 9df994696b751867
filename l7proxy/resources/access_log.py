"""What Envoy writes about each request: one JSON object per line."""

from __future__ import annotations

from l7proxy.resources.names import Json, any_of

# Envoy keeps numbers as numbers; what does not apply is null. ``caller`` is the identity as an
# address (nodecontract.identity_address4/6), which the kernel shows Envoy as its peer.
FIELDS = {
    "start_time": "%START_TIME%",
    "service": "%FILTER_CHAIN_NAME%",
    "route": "%ROUTE_NAME%",
    "caller": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
    "caller_port": "%DOWNSTREAM_DIRECT_REMOTE_PORT%",
    "original_destination": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "method": "%REQ(:METHOD)%",
    "authority": "%REQ(:AUTHORITY)%",
    "path": "%REQ(:PATH)%",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "response_flags": "%RESPONSE_FLAGS%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration_ms": "%DURATION%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%",
    "upstream_failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "user_agent": "%REQ(USER-AGENT)%",
}


def file_log(path: str) -> Json:
    """An access logger that appends to the file at ``path``."""
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": any_of(
            "envoy.extensions.access_loggers.file.v3.FileAccessLog",
            path=path,
            log_format={"json_format": FIELDS},
        ),
    }
