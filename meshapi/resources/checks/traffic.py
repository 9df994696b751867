"""Checks of TrafficPolicy, one function a part."""

from __future__ import annotations

import re

from meshapi.errors import Problem
from meshapi.resources.checks.common import DNS_LABEL, Problems
from meshapi.resources.traffic import (
    HealthCheck,
    IdentityLimit,
    LoadBalancing,
    TrafficPolicy,
    TrafficPolicySpec,
)

_HTTP_PATH = re.compile(r"/[!-~]{0,1023}")
_HTTP_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,255}")
_STATUSES = re.compile(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?", re.ASCII)


def trafficpolicy(policy: TrafficPolicy) -> Problems:
    spec = policy.spec
    for i, target in enumerate(spec.target_refs):
        if not DNS_LABEL.fullmatch(target.name):
            yield Problem(
                f"$.spec.targetRefs[{i}].name",
                f"{target.name!r} is not a service's name",
                "name a Service of this namespace",
            )
        if any(target.name == other.name for other in spec.target_refs[:i]):
            yield Problem(f"$.spec.targetRefs[{i}]", "stands there twice", "remove one")
    yield from _parts(spec)
    if spec.load_balancing is not None:
        yield from _load_balancing("$.spec.loadBalancing", spec.load_balancing)
    if spec.health_check is not None:
        yield from _health_check("$.spec.healthCheck", spec.health_check)
    if spec.connection_limits is not None:
        yield from _limit(
            "$.spec.connectionLimits.perIdentity", spec.connection_limits.per_identity
        )


def _parts(spec: TrafficPolicySpec) -> Problems:
    parts = {
        "loadBalancing": spec.load_balancing,
        "healthCheck": spec.health_check,
        "outlierDetection": spec.outlier_detection,
        "connectionLimits": spec.connection_limits,
    }
    if not any(part is not None for part in parts.values()):
        yield Problem("$.spec", "it says nothing", f"give one of {', '.join(parts)}")


def _load_balancing(at: str, wanted: LoadBalancing) -> Problems:
    if wanted.affinity is None and wanted.locality is None:
        yield Problem(at, "empty", "give affinity or locality")


def _health_check(at: str, check: HealthCheck) -> Problems:
    if check.timeout_seconds > check.interval_seconds:
        yield Problem(
            f"{at}.timeoutSeconds", "longer than intervalSeconds", "answer before the next question"
        )
    if check.protocol == "TCP":
        default = HealthCheck()
        for field, given, usual in (
            ("path", check.path, default.path),
            ("host", check.host, default.host),
            ("expectedStatuses", check.expected_statuses, default.expected_statuses),
        ):
            if given != usual:
                yield Problem(f"{at}.{field}", "a TCP check asks for none", "write protocol: HTTP")
        return
    if not _HTTP_PATH.fullmatch(check.path):
        yield Problem(f"{at}.path", f"{check.path!r} is not a path", "begin with /, no spaces")
    if check.host and not _HTTP_HOST.fullmatch(check.host):
        yield Problem(f"{at}.host", f"{check.host!r} is not a host", "write a name or an address")
    for i, text in enumerate(check.expected_statuses):
        match = _STATUSES.fullmatch(text)
        if match is None or (match[2] and match[2] < match[1]):
            yield Problem(
                f"{at}.expectedStatuses[{i}]", f"{text!r} is not a status", "write 200 or 200-399"
            )


def _limit(at: str, limit: IdentityLimit) -> Problems:
    if limit.connections_per_second is None and limit.concurrent_connections is None:
        yield Problem(at, "empty", "give connectionsPerSecond or concurrentConnections")
    if limit.burst is not None and limit.connections_per_second is None:
        yield Problem(f"{at}.burst", "alone", "give connectionsPerSecond with it")
