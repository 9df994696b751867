"""What is checked on this node: ports of its own workloads that services lead to. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from meshapi.backends import target_port
from meshapi.resources import Workload
from meshapi.resources.traffic import HealthCheck
from nodeagent.layout import version_of
from nodeagent.state import Name, NodeState, name_of


@dataclass(frozen=True)
class Target:
    """Whom to ask, and how. ``port`` is the one that is asked.

    ``source`` is this node's own address, by which policy knows that it may always ask; it is empty
    where any address will do.
    """

    workload: Name
    address: str
    port: int
    check: HealthCheck
    source: str = ""


@dataclass(frozen=True)
class Wanted:
    """A target, and the ports of its workload that its answers speak for."""

    target: Target
    ports: frozenset[int]


def wanted(state: NodeState) -> dict[Target, Wanted]:
    """Every check of this node's workloads, each once however many services ask for it.

    A workload that is cut off is not asked: nobody can reach it.
    """
    found: dict[Target, set[int]] = {}
    for workload in state.local:
        if state.quarantine_of(name_of(workload)) is not None:
            continue
        addresses = state.addresses(workload)
        if not addresses:
            continue
        for check, port in _of_workload(state, workload):
            source = _source(state, workload, addresses[0])
            target = Target(name_of(workload), addresses[0], check.port or port, check, source)
            found.setdefault(target, set()).add(port)
    return {target: Wanted(target, frozenset(ports)) for target, ports in found.items()}


def unhealthy(
    wanted_: Iterable[Wanted], healthy: Mapping[Target, bool]
) -> dict[Name, tuple[int, ...]]:
    """The ports of each workload whose check fails, in ascending order; of several any counts."""
    found: dict[Name, set[int]] = {}
    for one in wanted_:
        if not healthy[one.target]:
            found.setdefault(one.target.workload, set()).update(one.ports)
    return {name: tuple(sorted(ports)) for name, ports in found.items()}


def _source(state: NodeState, workload: Workload, address: str) -> str:
    node = state.nodes.get(state.node)
    if workload.spec.network == "host" or node is None:
        return ""
    own = (a for a in node.spec.addresses if version_of(a) == version_of(address))
    return next(own, "")


def _of_workload(state: NodeState, workload: Workload) -> Iterable[tuple[HealthCheck, int]]:
    """The checks of a workload, each with a port that a service leads to.

    A UDP port can be spoken for by a check of another port only.
    """
    for name in state.services_of(workload):
        policy = state.traffic_policy(name)
        check = policy.spec.health_check if policy else None
        if check is None:
            continue
        for port in state.services[name].spec.ports:
            if port.protocol == "UDP" and check.port is None:
                continue
            reached = target_port(workload, port)
            if reached:
                yield check, reached
