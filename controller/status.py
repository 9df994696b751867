"""Status that is computed when it is read, from the objects and the nodes' reports. Pure."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from controller.references import missing
from controller.reports import Reports
from controller.selection import selects_some
from controller.state import State
from meshapi import codec
from meshapi.backends import takes_connections
from meshapi.resources import (
    AuthorizationPolicy,
    BlockList,
    ClusterNetworkPolicy,
    ComponentStatus,
    Condition,
    HTTPRoute,
    Key,
    MeshNode,
    MeshNodeStatus,
    Namespace,
    NetworkPolicy,
    ParentRef,
    Quarantine,
    Resource,
    Service,
    TrafficPolicy,
    key_of,
)
from meshapi.resources.containment import BlockListStatus, QuarantineStatus
from meshapi.resources.core import NamespaceStatus, ServiceStatus
from meshapi.resources.gateway import HTTPRouteStatus, RouteParentStatus
from meshapi.resources.options import Policy
from meshapi.resources.traffic import TrafficPolicyStatus

CONTROLLER_NAME = "mesh.hoplite.io/controller"
Component = Literal["agent", "l7proxy"]


@dataclass(frozen=True)
class View:
    """The objects and what every node of the mesh last said."""

    state: State
    nodes: Mapping[str, MeshNodeStatus]

    def show(self, resource: Resource) -> Resource:
        """The resource with its status as of now."""
        status = _STATUS.get(type(resource))
        return codec.replace_status(resource, status(self, resource)) if status else resource

    @cached_property
    def bound(self) -> list[str]:
        """The nodes that every mesh-wide resource concerns: members that have workloads."""
        return sorted(node for node in self.nodes if node in self.state.workloads.by_node)

    @cached_property
    def refusals(self) -> Mapping[Key, list[str]]:
        """What bound nodes could not put into force, and why, by object."""
        found: dict[Key, list[str]] = {}
        for node in self.bound:
            status = self.nodes[node]
            for part in (status.agent, status.l7proxy):
                for problem in part.problems if part else ():
                    key = Key(problem.kind, problem.namespace, problem.name)
                    text = problem.message or problem.reason
                    found.setdefault(key, []).append(f"{node}: {text}")
        return found

    @cached_property
    def _cut(self) -> Mapping[tuple[Key, str], int]:
        found: Counter[tuple[Key, str]] = Counter()
        for status in self.nodes.values():
            for one in status.agent.cut if status.agent else ():
                found[Key(one.kind, one.namespace, one.name), one.uid] += one.connections
        return found

    def cut(self, policy: Resource) -> int:
        """How many open connections the nodes have ended for a policy."""
        return self._cut.get((key_of(policy), policy.metadata.uid), 0)

    @cached_property
    def slowest(self) -> Mapping[Component, int]:
        """The smallest revision that a component has in force on any bound node."""
        return {
            "agent": min((_revision(self.nodes[n].agent) for n in self.bound), default=0),
            "l7proxy": min((_revision(self.nodes[n].l7proxy) for n in self.bound), default=0),
        }


def look(state: State, reports: Reports, now: float) -> View:
    """The view of ``state`` at ``now`` (seconds of the clock that the reports came by)."""
    return View(state, reports.statuses((key.name for key in state.of(MeshNode)), now))


def _namespace(_view: View, _namespace: Namespace) -> NamespaceStatus:
    return NamespaceStatus(phase="Active")


def _meshnode(view: View, node: MeshNode) -> MeshNodeStatus:
    return view.nodes.get(node.metadata.name) or node.status  # a dry run's node is not known


def _service(view: View, service: Service) -> ServiceStatus:
    backends = view.state.backends(service)
    ready = sum(takes_connections(w, service) for w in backends)
    held_back = sum(w.status.ready for w in backends) - ready
    counted = f"{ready} of {len(backends)} backends ready"
    if held_back:
        counted += f"; {held_back} unhealthy or of weight 0"
    if not service.spec.selector:
        condition = _no("Ready", "NoBackends", "the service has no selector")
    elif not backends:
        condition = _no("Ready", "NoBackends", "no workload matches its selector")
    elif not ready:
        condition = _no("Ready", "NoReadyBackends", counted)
    else:
        condition = Condition(type="Ready", status="True", reason="BackendsReady", message=counted)
    programmed = _programmed(view, service, ("agent",))
    return ServiceStatus(conditions=_observed(service, condition, programmed))


def _policy(view: View, policy: Policy) -> msgspec.Struct:
    if selects_some(view.state, policy):
        programmed = _programmed(view, policy, ("agent",))
    else:
        programmed = _unknown("Programmed", "NotNeeded", "it selects no workload")
    return type(policy.status)(_observed(policy, programmed), view.cut(policy))


def _trafficpolicy(view: View, policy: TrafficPolicy) -> TrafficPolicyStatus:
    problems = [
        f"$.spec.targetRefs[{i}]: {problem}"
        for i, target in enumerate(policy.spec.target_refs)
        if (problem := missing(view.state, policy.metadata.namespace, target.name, None))
    ]
    resolved = _resolved("TargetNotFound", problems)
    if len(problems) == len(policy.spec.target_refs):
        programmed = _unknown("Programmed", "NotNeeded", "none of its services exists")
    else:
        programmed = _programmed(view, policy, ("agent",))
    return TrafficPolicyStatus(conditions=_observed(policy, resolved, programmed))


def _quarantine(view: View, quarantine: Quarantine) -> QuarantineStatus:
    """In force on every node even before the workload exists: it must not have a first moment."""
    namespace, name = quarantine.metadata.namespace, quarantine.spec.workload
    there = view.state.workload(namespace, name) is not None
    problem = f"$.spec.workload: Workload {namespace}/{name} does not exist"
    resolved = _resolved("WorkloadNotFound", [] if there else [problem])
    programmed = _programmed(view, quarantine, ("agent",))
    conditions = _observed(quarantine, resolved, programmed)
    return QuarantineStatus(conditions, view.cut(quarantine))


def _blocklist(view: View, blocks: BlockList) -> BlockListStatus:
    conditions = _observed(blocks, _programmed(view, blocks, ("agent",)))
    return BlockListStatus(conditions, view.cut(blocks))


def _httproute(view: View, route: HTTPRoute) -> HTTPRouteStatus:
    resolved = _backends_resolved(view.state, route)
    programmed = _programmed(view, route, ("agent", "l7proxy"))
    parents = []
    for parent in route.spec.parent_refs:
        accepted = _accepted(view.state, route, parent)
        in_force = (
            programmed
            if accepted.status == "True"
            else _no("Programmed", "Invalid", "the route is not accepted for this parent")
        )
        parents.append(
            RouteParentStatus(
                parent_ref=parent,
                controller_name=CONTROLLER_NAME,
                conditions=_observed(route, accepted, resolved, in_force),
            )
        )
    return HTTPRouteStatus(parents=tuple(parents))


def _accepted(state: State, route: HTTPRoute, parent: ParentRef) -> Condition:
    problem = missing(state, route.metadata.namespace, parent.name, parent.port)
    if problem:
        return _no("Accepted", "NoMatchingParent", problem)
    return Condition(type="Accepted", status="True", reason="Accepted")


def _backends_resolved(state: State, route: HTTPRoute) -> Condition:
    problems = [
        f"$.spec.rules[{i}].backendRefs[{j}]: {problem}"
        for i, rule in enumerate(route.spec.rules)
        for j, backend in enumerate(rule.backend_refs)
        if (problem := missing(state, route.metadata.namespace, backend.name, backend.port))
    ]
    return _resolved("BackendNotFound", problems)


def _resolved(reason: str, problems: list[str]) -> Condition:
    """Whether all that an object refers to is there."""
    if problems:
        return _no("ResolvedRefs", reason, "; ".join(problems))
    return Condition(type="ResolvedRefs", status="True", reason="ResolvedRefs")


def _programmed(view: View, resource: Resource, components: Sequence[Component]) -> Condition:
    """Whether every node that the resource concerns has it in force, by these components."""
    revision = int(resource.metadata.resource_version or sys.maxsize)  # none yet: a dry run
    refused = view.refusals.get(key_of(resource))
    if refused:
        return _no("Programmed", "Invalid", "; ".join(refused))
    if not view.bound:
        return _unknown("Programmed", "NotNeeded", "no node has workloads")
    if any(view.slowest[component] < revision for component in components):
        waiting = _waiting(view, components, revision)
        return _unknown("Programmed", "Pending", "; ".join(waiting))
    count = len(view.bound)
    message = f"in force on {count} of {count} nodes"
    return Condition(type="Programmed", status="True", reason="Programmed", message=message)


def _waiting(view: View, components: Sequence[Component], revision: int) -> list[str]:
    waiting = []
    for node in view.bound:
        for name in components:
            part = view.nodes[node].agent if name == "agent" else view.nodes[node].l7proxy
            if part is None:
                waiting.append(f"{node}: {name} has not reported")
            elif part.revision < revision:
                waiting.append(f"{node}: {name} is at revision {part.revision}")
    return waiting


def _revision(part: ComponentStatus | None) -> int:
    return part.revision if part else -1


def _observed(resource: Resource, *conditions: Condition) -> tuple[Condition, ...]:
    generation = resource.metadata.generation
    return tuple(replace(c, observed_generation=generation) for c in conditions)


def _no(type_: str, reason: str, message: str) -> Condition:
    return Condition(type=type_, status="False", reason=reason, message=message)


def _unknown(type_: str, reason: str, message: str) -> Condition:
    return Condition(type=type_, status="Unknown", reason=reason, message=message)


_STATUS: dict[type[Resource], Callable[[View, Any], msgspec.Struct]] = {
    Namespace: _namespace,
    Service: _service,
    HTTPRoute: _httproute,
    TrafficPolicy: _trafficpolicy,
    NetworkPolicy: _policy,
    ClusterNetworkPolicy: _policy,
    AuthorizationPolicy: _policy,
    Quarantine: _quarantine,
    BlockList: _blocklist,
    MeshNode: _meshnode,
}
COMPUTED = tuple(kind for kind in _STATUS if kind is not Namespace)  # it moves without a write
