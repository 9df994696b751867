"""The backends of a service as this node uses them, in words: for people and for reports. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from nodeagent.desired import spread
from nodeagent.desired.services import backend_number, service_number
from nodeagent.desired.spread import Backend
from nodeagent.desired.units import Facts
from nodeagent.state import Name, NodeState, name_of

Use = Literal["new", "kept", "unhealthy", "elsewhere"]


@dataclass(frozen=True)
class Listed:
    """A backend of a service port; ``number`` is what stands for it in the kernel.

    ``use`` says what it gets: ``new`` connections, none but what it has (``kept``), or nothing,
    because its check fails or because only backends of this node are wanted.
    """

    service: Name
    port: int
    protocol: str
    number: int
    backend: Backend
    use: Use

    @property
    def workload(self) -> Name:
        return name_of(self.backend.workload)

    @property
    def address(self) -> str:
        text, port = self.backend.address, self.backend.port
        return f"[{text}]:{port}" if ":" in text else f"{text}:{port}"


def listed(state: NodeState, facts: Facts, name: Name) -> Iterator[Listed]:
    """Every ready backend of a service, of both IP versions."""
    service = state.services.get(name)
    if service is None:
        return
    policy = state.traffic_policy(name)
    for port in service.spec.ports:
        number = service_number(*name, port.port, port.protocol)
        for version in (4, 6):
            found = list(spread.backends(state, service, port, version))
            shares = spread.shares(state, facts, service, policy, found)
            weights = {share.backend.end: share.weight for share in shares}
            for backend in found:
                yield Listed(
                    service=name,
                    port=port.port,
                    protocol=port.protocol,
                    number=backend_number(number, backend),
                    backend=backend,
                    use=_use(state, facts, backend, weights.get(backend.end)),
                )


def _use(state: NodeState, facts: Facts, backend: Backend, weight: int | None) -> Use:
    if weight is not None:
        return "new" if weight else "kept"
    if backend.port in spread.unhealthy_ports(state, facts, backend.workload):
        return "unhealthy"
    return "elsewhere"
