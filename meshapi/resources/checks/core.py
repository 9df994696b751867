"""Checks of Service."""

from __future__ import annotations

from meshapi.errors import Problem
from meshapi.resources.checks.common import PORT_NAME, Problems, ip, labels, port_name
from meshapi.resources.core import HEADLESS, Service, ServiceSpec


def service(service: Service) -> Problems:
    spec = service.spec
    if not spec.ports:
        yield Problem("$.spec.ports", "empty", "give at least one port")
    seen_ports: dict[tuple[int, str], int] = {}
    seen_names: dict[str, int] = {}
    for i, port in enumerate(spec.ports):
        at = f"$.spec.ports[{i}]"
        first = seen_ports.setdefault((port.port, port.protocol), i)
        if first != i:
            yield Problem(
                f"{at}.port",
                f"{port.port}/{port.protocol} stands in $.spec.ports[{first}] already",
                "give each port once",
            )
        yield from port_name(f"{at}.name", port.name, seen_names, i)
        if len(spec.ports) > 1 and not port.name:
            yield Problem(f"{at}.name", "missing", "a service with several ports names each")
        yield from _target_port(f"{at}.targetPort", port.target_port)
    yield from labels("$.spec.selector", spec.selector)
    yield from _cluster_ips(spec)
    if spec.session_affinity_config and spec.session_affinity != "ClientIP":
        yield Problem(
            "$.spec.sessionAffinityConfig", "not empty", "it needs sessionAffinity: ClientIP"
        )
    if spec.headless:
        yield from _headless(spec)


def _cluster_ips(spec: ServiceSpec) -> Problems:
    given = [("$.spec.clusterIP", spec.cluster_ip)] if spec.cluster_ip else []
    given += [(f"$.spec.clusterIPs[{i}]", a) for i, a in enumerate(spec.cluster_ips)]
    for path, address in given:
        if not spec.headless:
            yield from ip(path, address)
        elif address != HEADLESS:
            yield Problem(path, f"{address} beside {HEADLESS}", f"keep the address or {HEADLESS}")
    if spec.headless and len(spec.cluster_ips) > 1:
        yield Problem("$.spec.clusterIPs", f"more than {HEADLESS}", f"write [{HEADLESS}]")


def _headless(spec: ServiceSpec) -> Problems:
    """A headless service has no virtual address, so nothing of balancing can be acted on."""
    for path, given in (
        ("$.spec.sessionAffinity", spec.session_affinity == "ClientIP"),
        ("$.spec.internalTrafficPolicy", spec.internal_traffic_policy == "Local"),
        ("$.spec.trafficDistribution", spec.traffic_distribution is not None),
    ):
        if given:
            yield Problem(path, "a headless service has no address to balance", "remove it")


def _target_port(path: str, target: int | str | None) -> Problems:
    if isinstance(target, int) and not 1 <= target <= 65535:
        yield Problem(path, f"{target} is not a port", "give 1 to 65535 or a port's name")
    if isinstance(target, str) and not PORT_NAME.fullmatch(target):
        yield Problem(path, f"{target!r} is not a port name", "give a number or a port's name")
