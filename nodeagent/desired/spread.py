"""Which of a service's backends belong to it, and how new connections are spread over them. Pure.

A backend with a share of 0 keeps what it has and gets nothing new. Each rule takes away only as
long as something is left that can take connections, but for ``internalTrafficPolicy: Local``, which
is a promise about where traffic goes and not a preference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from meshapi.backends import target_port
from meshapi.resources import Service, ServicePort, Workload
from meshapi.resources.mesh import ZONE_LABEL
from meshapi.resources.traffic import OutlierDetection, TrafficPolicy, locality
from nodeagent.desired.units import Facts
from nodeagent.layout import address_bytes, port_bytes, version_of
from nodeagent.state import NodeState, name_of

_MOST = 65_535  # what the kernel's fields hold


@dataclass(frozen=True)
class Backend:
    """An address and port actually dialled, and whose it is."""

    workload: Workload
    address: str
    port: int

    @property
    def end(self) -> bytes:
        """Address and port in network order."""
        return address_bytes(self.address) + port_bytes(self.port)


@dataclass(frozen=True)
class Share:
    """A backend and its part of the new connections."""

    backend: Backend
    weight: int


@dataclass(frozen=True)
class Ejection:
    """After so many failures in a row, for so many seconds, so many at a time; 0 is never."""

    after: int = 0
    seconds: int = 0
    most: int = 0


NEVER = Ejection()


def backends(
    state: NodeState, service: Service, port: ServicePort, version: int
) -> Iterator[Backend]:
    """A service port's backends of one IP version: ready, and not cut off; healthy or not."""
    for workload in state.backends(service):
        reached = target_port(workload, port)
        if not reached:
            continue
        for text in state.addresses(workload):
            if version_of(text) == version:
                yield Backend(workload, text, reached)
                break


def shares(
    state: NodeState,
    facts: Facts,
    service: Service,
    policy: TrafficPolicy | None,
    found: Sequence[Backend],
) -> list[Share]:
    """The backends that belong to a service on this node; their order is that of ``found``."""
    if service.spec.internal_traffic_policy == "Local":
        found = [b for b in found if b.workload.spec.node_name == state.node]
    well = [b for b in found if b.port not in unhealthy_ports(state, facts, b.workload)]
    if not any(b.workload.spec.weight for b in well):
        well = list(found)  # all of them fail their check: that says nothing about any one of them
    near = _nearest(state, locality(service, policy), well)
    return [Share(b, b.workload.spec.weight if near is None or near(b) else 0) for b in well]


def unhealthy_ports(state: NodeState, facts: Facts, workload: Workload) -> Iterable[int]:
    """The ports whose health check fails: of our own workloads we know it first."""
    if workload.spec.node_name == state.node:
        return facts.unhealthy.get(name_of(workload), ())
    return workload.status.unhealthy_ports


def ejection(policy: TrafficPolicy | None, takers: int) -> Ejection:
    """How backends are left out that do not take connections, ``takers`` being those with a share.

    Of several backends one may always be out, whatever percentage that is.
    """
    wish = (policy.spec.outlier_detection if policy else None) or OutlierDetection()
    if takers < 2 or not wish.consecutive_connect_failures:
        return NEVER
    return Ejection(
        wish.consecutive_connect_failures,
        wish.base_ejection_seconds,
        min(max(1, takers * wish.max_ejection_percent // 100), _MOST),
    )


def _nearest(
    state: NodeState, wish: str, found: Iterable[Backend]
) -> Callable[[Backend], bool] | None:
    """Tells the backends of the nearest ring that can take connections; None for all of them."""
    rings: list[Callable[[Backend], bool]] = []
    if wish == "Node":
        rings.append(lambda b: b.workload.spec.node_name == state.node)
    zone = zone_of(state, state.node)
    if wish != "None" and zone:
        rings.append(lambda b: zone_of(state, b.workload.spec.node_name) == zone)
    for ring in rings:
        if any(b.workload.spec.weight and ring(b) for b in found):
            return ring
    return None


def zone_of(state: NodeState, node: str) -> str:
    """A node's zone; empty if it is not known."""
    found = state.nodes.get(node)
    return found.metadata.labels.get(ZONE_LABEL, "") if found else ""
