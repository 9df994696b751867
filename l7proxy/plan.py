"""The order of a change: what is referred to first, references after; removal in reverse. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from l7proxy.xds.types import Type


@dataclass(frozen=True)
class Inventory:
    """Names and versions of resources by kind, and the service ports that have a filter chain."""

    versions: Mapping[Type, Mapping[str, str]]
    chains: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Put:
    """Offer these resources and wait until Envoy has acknowledged them."""

    kind: Type
    names: frozenset[str]


@dataclass(frozen=True)
class Withdraw:
    """Go on only when the agent has confirmed that it redirects none of these service ports."""

    ports: frozenset[str]


@dataclass(frozen=True)
class Announce:
    """Tell the agent which service ports are ready."""


@dataclass(frozen=True)
class Remove:
    """Offer these resources no longer."""

    kind: Type
    names: frozenset[str]


Step = Put | Withdraw | Announce | Remove


def plan(held: Inventory, wanted: Inventory, listener: str) -> list[Step]:
    """The steps that turn ``held`` into ``wanted`` so that no request meets a gap.

    An Envoy cluster is acknowledged once it is warm, and it needs its endpoints for that; a route
    names clusters, a filter chain names a route configuration, and the agent redirects to chains.
    """
    steps: list[Step] = []
    for kind in (Type.ENDPOINTS, Type.CLUSTER, Type.ROUTES):
        changed = _changed(held.versions[kind], wanted.versions[kind])
        if changed or kind is Type.CLUSTER:  # Envoy waits for clusters even when there are none
            steps.append(Put(kind, changed))
    dropped = held.chains - wanted.chains
    if dropped:
        steps.append(Withdraw(dropped))
    if wanted.chains:
        steps.append(Put(Type.LISTENER, frozenset({listener})))
    elif listener in held.versions[Type.LISTENER]:
        steps.append(Remove(Type.LISTENER, frozenset({listener})))
    steps.append(Announce())
    for kind in (Type.ROUTES, Type.CLUSTER, Type.ENDPOINTS):
        gone = frozenset(held.versions[kind].keys() - wanted.versions[kind].keys())
        if gone:
            steps.append(Remove(kind, gone))
    return steps


def _changed(held: Mapping[str, str], wanted: Mapping[str, str]) -> frozenset[str]:
    return frozenset(name for name, version in wanted.items() if held.get(name) != version)
