"""What a resource's types cannot say: names, ranges, references within one object.

Pure and about one object alone; checks that need other objects are admission's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from meshapi.errors import Problem
from meshapi.resources import options
from meshapi.resources.authorization import AuthorizationPolicy
from meshapi.resources.checks.authorization import authorizationpolicy
from meshapi.resources.checks.common import (
    DNS_LABEL,
    DNS_SUBDOMAIN,
    LABEL_FIX,
    Problems,
    labels,
    parse_network,
)
from meshapi.resources.checks.containment import blocklist, quarantine
from meshapi.resources.checks.core import service
from meshapi.resources.checks.gateway import httproute
from meshapi.resources.checks.mesh import meshnode, workload
from meshapi.resources.checks.networking import networkpolicy
from meshapi.resources.checks.policyapi import clusternetworkpolicy
from meshapi.resources.checks.traffic import trafficpolicy
from meshapi.resources.containment import BlockList, Quarantine
from meshapi.resources.core import Namespace, Service
from meshapi.resources.gateway import HTTPRoute
from meshapi.resources.mesh import MeshNode, Workload
from meshapi.resources.meta import ObjectMeta
from meshapi.resources.networking import NetworkPolicy
from meshapi.resources.options import POLICIES
from meshapi.resources.policyapi import ClusterNetworkPolicy
from meshapi.resources.registry import Resource, kind_of
from meshapi.resources.traffic import TrafficPolicy

__all__ = ["check", "parse_network"]


def check(resource: Resource) -> list[Problem]:
    """Every problem of one resource, in the order of its fields."""
    problems = list(_metadata(resource))
    problems += _CHECKS[type(resource)](resource)
    return problems


def _metadata(resource: Resource) -> Problems:
    meta: ObjectMeta = resource.metadata
    namespaced = kind_of(resource).namespaced
    strict_name = isinstance(resource, (Namespace, Service))
    pattern = DNS_LABEL if strict_name else DNS_SUBDOMAIN
    if not pattern.fullmatch(meta.name):
        yield Problem("$.metadata.name", f"{meta.name!r} is not a valid name", LABEL_FIX)
    if namespaced and not DNS_LABEL.fullmatch(meta.namespace):
        yield Problem(
            "$.metadata.namespace", f"{meta.namespace!r} is not a namespace's name", LABEL_FIX
        )
    if not namespaced and meta.namespace:
        yield Problem(
            "$.metadata.namespace", f"a {resource.kind} belongs to no namespace", "remove it"
        )
    yield from labels("$.metadata.labels", meta.labels)
    if isinstance(resource, POLICIES):
        yield from options.problems(resource)


def _nothing(_: Resource) -> Problems:
    return iter(())


_CHECKS: dict[type[Resource], Callable[[Any], Problems]] = {
    Namespace: _nothing,
    Service: service,
    HTTPRoute: httproute,
    NetworkPolicy: networkpolicy,
    ClusterNetworkPolicy: clusternetworkpolicy,
    AuthorizationPolicy: authorizationpolicy,
    TrafficPolicy: trafficpolicy,
    Quarantine: quarantine,
    BlockList: blocklist,
    Workload: workload,
    MeshNode: meshnode,
}
