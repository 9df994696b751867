"""Which workloads take new connections of a service, and on which port. Pure."""

from __future__ import annotations

from meshapi.resources.core import Service, ServicePort
from meshapi.resources.mesh import Workload


def target_port(workload: Workload, port: ServicePort) -> int:
    """The port that a service's port means on a workload; 0 when it has none of that name."""
    target = port.target_port
    if target is None:
        return port.port
    if isinstance(target, int):
        return target
    for candidate in workload.spec.ports:
        if candidate.name == target and candidate.protocol == port.protocol:
            return candidate.port
    return 0


def takes_connections(workload: Workload, service: Service) -> bool:
    """Whether new connections to some port of the service may go to the workload.

    It is ready, its weight is not 0, and the health check of that port does not fail.
    """
    status = workload.status
    return (
        status.ready
        and workload.spec.weight > 0
        and any(
            target_port(workload, port) not in (0, *status.unhealthy_ports)
            for port in service.spec.ports
        )
    )
