"""mesh.hoplite.io/v1alpha1: TrafficPolicy, how connections to a service are spread and bounded.

Each part is optional and has a class of its own; what is not given is not done.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from meshapi.resources.core import AffinitySeconds, ClientIPConfig, Port, Service
from meshapi.resources.meta import Condition, ObjectMeta, Part, SparsePart

Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Seconds = Annotated[int, msgspec.Meta(ge=1, le=3600)]
Threshold = Annotated[int, msgspec.Meta(ge=1, le=100)]
Percent = Annotated[int, msgspec.Meta(ge=1, le=100)]
Locality = Literal["Node", "Zone", "None"]


class TargetRef(SparsePart, frozen=True):
    """A Service of the policy's own namespace."""

    kind: Literal["Service"]
    name: str
    group: Literal["", "core"] = ""


class Affinity(Part, frozen=True):
    """Connections of one client go to one backend, until it has made none for so many seconds."""

    type: Literal["ClientIP"]
    timeout_seconds: AffinitySeconds = 10_800


class LocalityPreference(Part, frozen=True):
    """Backends of the client's own node or zone, as long as one of them can take connections."""

    prefer: Locality


class LoadBalancing(SparsePart, frozen=True):
    affinity: Affinity | None = None
    locality: LocalityPreference | None = None


class HealthCheck(Part, frozen=True):
    """A backend's own node asks its port; no ``port`` means the one that the service leads to.

    ``path``, ``host`` and ``expected_statuses`` (codes and ranges such as ``200-399``) are HTTP's.
    """

    protocol: Literal["TCP", "HTTP"] = "TCP"
    port: Port | None = None
    path: str = "/"
    host: str = ""
    expected_statuses: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("200-399",)
    interval_seconds: Seconds = 5
    timeout_seconds: Seconds = 1
    healthy_threshold: Threshold = 1
    unhealthy_threshold: Threshold = 3


class OutlierDetection(Part, frozen=True):
    """A backend that refuses or ignores connections is left out for a time, by each node for
    itself; 0 ``consecutive_connect_failures`` turn it off.
    """

    consecutive_connect_failures: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 5
    base_ejection_seconds: Seconds = 10
    max_ejection_percent: Percent = 50


class IdentityLimit(SparsePart, frozen=True):
    """What one client identity may do on one node. No ``burst`` means one second's worth."""

    connections_per_second: Count | None = None
    burst: Count | None = None
    concurrent_connections: Count | None = None


class ConnectionLimits(SparsePart, frozen=True):
    per_identity: IdentityLimit


class TrafficPolicySpec(SparsePart, frozen=True):
    target_refs: Annotated[tuple[TargetRef, ...], msgspec.Meta(min_length=1)]
    load_balancing: LoadBalancing | None = None
    health_check: HealthCheck | None = None
    outlier_detection: OutlierDetection | None = None
    connection_limits: ConnectionLimits | None = None


class TrafficPolicyStatus(SparsePart, frozen=True):
    conditions: tuple[Condition, ...] = ()


class TrafficPolicy(SparsePart, frozen=True):
    """How connections to some services of its namespace are handled; a service has at most one."""

    api_version: Literal["mesh.hoplite.io/v1alpha1"]
    kind: Literal["TrafficPolicy"]
    metadata: ObjectMeta
    spec: TrafficPolicySpec
    status: TrafficPolicyStatus = TrafficPolicyStatus()


def affinity_seconds(service: Service, policy: TrafficPolicy | None) -> int:
    """How long a client stays with a backend, 0 for not at all; the policy's word goes first."""
    wanted = policy.spec.load_balancing if policy else None
    if wanted and wanted.affinity:
        return wanted.affinity.timeout_seconds
    if service.spec.session_affinity != "ClientIP":
        return 0
    config = service.spec.session_affinity_config
    return (config.client_ip if config else ClientIPConfig()).timeout_seconds


def locality(service: Service, policy: TrafficPolicy | None) -> Locality:
    """Which backends go first; the policy's word goes before ``trafficDistribution``."""
    wanted = policy.spec.load_balancing if policy else None
    if wanted and wanted.locality:
        return wanted.locality.prefer
    match service.spec.traffic_distribution:
        case "PreferSameNode":
            return "Node"
        case "PreferSameZone" | "PreferClose":
            return "Zone"
        case None:
            return "None"
