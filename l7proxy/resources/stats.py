"""Which statistics Envoy keeps. They are its main cost at scale, so this is an inclusion list."""

from __future__ import annotations

from typing import Final

from l7proxy.resources.names import Json

# Service ports and backends have a slash in their names (names.stat_name) and no dot.
_PORT = r"^http\.[^./]+/[^.]+\."
_BACKEND = r"^cluster\.[^./]+/[^.]+\."

_KEPT: Final = (
    _PORT + r"downstream_rq_(total|active|[1-5]xx|time|timeout|rx_reset)$",
    _PORT + r"(no_route|downstream_cx_(total|active|protocol_error))$",
    _BACKEND + r"upstream_rq_(total|active|[1-5]xx|time|timeout|retry|pending_overflow|rx_reset)$",
    _BACKEND + r"upstream_cx_(total|active|connect_fail|connect_timeout|none_healthy)$",
    _BACKEND + r"membership_(total|healthy)$",
    r"^listener\.outbound\.(downstream_cx_(total|active)|no_filter_chain_match)$",
    r"^listener_manager\.(listener_create_failure|total_filter_chains_draining)$",
    r"^listener_manager\.(workers_started|lds\.update_rejected)$",
    r"^cluster_manager\.(active_clusters|warming_clusters|cds\.update_rejected)$",
    r"^server\.(live|uptime|memory_allocated|total_connections|concurrency)$",
    r"^overload\.",
)

# Label and where it stands in the statistic's name: the first group is cut out of the name, the
# second is the value. Names are those of names.stat_name.
_LABELS: Final = (
    ("service", r"^http\.(([^/.]+/[^/.]+)/)\d+\."),
    ("port", r"^(?:http|cluster)\.[^/.]+/[^/.]+/((\d+)\.)"),
    ("backend", r"^cluster\.(([^/.]+/[^/.]+)/)\d+\."),
)

_LATENCY_BUCKETS_MS: Final = (
    0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 30000, 60000,
)  # fmt: skip


def stats_config() -> Json:
    """The bootstrap's ``stats_config``; latencies in milliseconds."""
    return {
        "use_all_default_tags": False,
        "stats_tags": [{"tag_name": name, "regex": regex} for name, regex in _LABELS]
        + [{"tag_name": "envoy.response_code_class"}],
        "stats_matcher": {
            "inclusion_list": {"patterns": [{"safe_regex": {"regex": r}} for r in _KEPT]}
        },
        "histogram_bucket_settings": [
            {"match": {"suffix": "_rq_time"}, "buckets": list(_LATENCY_BUCKETS_MS)}
        ],
    }
