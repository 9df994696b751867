"""What a table shows of each kind. Pure."""

from __future__ import annotations

from hopctl.columns.cells import Columns, Context
from hopctl.columns.nodes import MESHNODE, WORKLOAD
from hopctl.columns.policies import (
    AUTHORIZATIONPOLICY,
    BLOCKLIST,
    CLUSTERNETWORKPOLICY,
    NETWORKPOLICY,
    QUARANTINE,
)
from hopctl.columns.services import HTTPROUTE, NAMESPACE, SERVICE, TRAFFICPOLICY
from hopctl.output import Cell
from meshapi.resources import (
    AuthorizationPolicy,
    BlockList,
    ClusterNetworkPolicy,
    HTTPRoute,
    Kind,
    MeshNode,
    Namespace,
    NetworkPolicy,
    Quarantine,
    Resource,
    Service,
    TrafficPolicy,
    Workload,
)

__all__ = ["Context", "header", "row"]


def header(kind: Kind, *, wide: bool) -> list[str]:
    columns = _COLUMNS[kind.type]
    place = ["NAMESPACE"] if kind.namespaced else []
    return [*place, "NAME", *columns.header, *(columns.wide_header if wide else ())]


def row(kind: Kind, resource: Resource, context: Context, *, wide: bool) -> list[Cell]:
    columns = _COLUMNS[kind.type]
    place = [Cell(resource.metadata.namespace)] if kind.namespaced else []
    cells = [*place, Cell(resource.metadata.name), *columns.row(resource, context)]
    return [*cells, *columns.wide_row(resource, context)] if wide else cells


_COLUMNS: dict[type[Resource], Columns] = {
    Namespace: NAMESPACE,
    Service: SERVICE,
    HTTPRoute: HTTPROUTE,
    TrafficPolicy: TRAFFICPOLICY,
    NetworkPolicy: NETWORKPOLICY,
    ClusterNetworkPolicy: CLUSTERNETWORKPOLICY,
    AuthorizationPolicy: AUTHORIZATIONPOLICY,
    Quarantine: QUARANTINE,
    BlockList: BLOCKLIST,
    MeshNode: MESHNODE,
    Workload: WORKLOAD,
}
