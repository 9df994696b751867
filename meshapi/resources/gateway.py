"""gateway.networking.k8s.io/v1: HTTPRoute for the mesh (GAMMA: the parent is a Service)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from meshapi.resources.core import Port
from meshapi.resources.meta import Condition, ObjectMeta, Part, SparsePart

GROUP = "gateway.networking.k8s.io"
Weight = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]


class ParentRef(SparsePart, frozen=True):
    """The Service whose requests this route handles; no port means every port."""

    kind: Literal["Service"]
    name: str
    group: Literal["", "core"] = ""
    namespace: str = ""
    port: Port | None = None


class PathMatch(Part, frozen=True):
    type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    value: str = "/"


class HeaderMatch(Part, frozen=True):
    name: str
    value: str
    type: Literal["Exact", "RegularExpression"] = "Exact"


class QueryParamMatch(Part, frozen=True):
    name: str
    value: str
    type: Literal["Exact", "RegularExpression"] = "Exact"


Method = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]


class RouteMatch(SparsePart, frozen=True):
    """All parts must hold; a rule matches when any of its matches does."""

    path: PathMatch | None = None
    headers: tuple[HeaderMatch, ...] = ()
    query_params: tuple[QueryParamMatch, ...] = ()
    method: Method | None = None


class BackendRef(Part, frozen=True):
    """Where requests go, in proportion to ``weight`` among the rule's backends."""

    name: str
    port: Port | None = None
    weight: Weight = 1
    kind: Literal["Service"] = "Service"
    group: Literal["", "core"] = ""
    namespace: str | None = None


class HTTPRouteRule(SparsePart, frozen=True):
    name: str = ""
    matches: tuple[RouteMatch, ...] = ()
    backend_refs: tuple[BackendRef, ...] = ()


class HTTPRouteSpec(SparsePart, frozen=True):
    parent_refs: tuple[ParentRef, ...]
    rules: tuple[HTTPRouteRule, ...]


class RouteParentStatus(SparsePart, frozen=True):
    parent_ref: ParentRef
    controller_name: str
    conditions: tuple[Condition, ...] = ()


class HTTPRouteStatus(SparsePart, frozen=True):
    parents: tuple[RouteParentStatus, ...] = ()


class HTTPRoute(SparsePart, frozen=True):
    """Layer-7 routing for requests to a Service; only such services go through the node proxy."""

    api_version: Literal["gateway.networking.k8s.io/v1"]
    kind: Literal["HTTPRoute"]
    metadata: ObjectMeta
    spec: HTTPRouteSpec
    status: HTTPRouteStatus = HTTPRouteStatus()
