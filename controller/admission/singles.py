"""What may be said once only: one TrafficPolicy a Service, one Quarantine a Workload."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from controller.state import State
from meshapi.errors import Problem
from meshapi.resources import Key, Quarantine, Resource, TrafficPolicy

Claim = tuple[str, str, str]  # JSON path, namespace and name of what is spoken about


def singles(after: State, drafts: Mapping[Key, Resource]) -> list[tuple[Key, Problem]]:
    """Drafts that speak about what another object speaks about already, which is named."""
    return [
        *_taken(after.of(TrafficPolicy), drafts, "Service", _services),
        *_taken(after.of(Quarantine), drafts, "Workload", _workload),
    ]


def _services(policy: TrafficPolicy) -> Iterator[Claim]:
    for i, target in enumerate(policy.spec.target_refs):
        yield f"$.spec.targetRefs[{i}]", policy.metadata.namespace, target.name


def _workload(quarantine: Quarantine) -> Iterator[Claim]:
    yield "$.spec.workload", quarantine.metadata.namespace, quarantine.spec.workload


def _taken(
    present: Mapping[Key, Any],
    drafts: Mapping[Key, Resource],
    what: str,
    claims: Callable[[Any], Iterator[Claim]],
) -> Iterator[tuple[Key, Problem]]:
    wanted = [key for key in drafts if key in present]
    if not wanted:
        return
    holders = {
        (namespace, name): key
        for key, resource in present.items()
        if key not in drafts
        for _, namespace, name in claims(resource)
    }
    for key in wanted:
        for path, namespace, name in claims(present[key]):
            first = holders.setdefault((namespace, name), key)
            if first != key:
                yield (
                    key,
                    Problem(
                        path,
                        f"{what} {namespace}/{name} has {first} already",
                        "change that one, or delete it first",
                    ),
                )
