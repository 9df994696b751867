"""The current objects of the mesh, as one immutable value. Pure.

Every write makes a new ``State``; whoever holds an old one keeps a consistent picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar, cast

from controller.workloads import Workloads
from meshapi.identity import WorkloadIdentity
from meshapi.resources import (
    AuthorizationPolicy,
    BlockList,
    ClusterNetworkPolicy,
    HTTPRoute,
    Key,
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
from meshapi.resources.registry import KINDS
from meshapi.wire import MeshSettings

R = TypeVar(
    "R",
    Namespace,
    Service,
    HTTPRoute,
    NetworkPolicy,
    ClusterNetworkPolicy,
    AuthorizationPolicy,
    TrafficPolicy,
    Quarantine,
    BlockList,
    MeshNode,
    Workload,
)

ROOT_NAMESPACE = MeshSettings().root_namespace

_NAME_OF: dict[type[Resource], str] = {kind.type: kind.name for kind in KINDS}


@dataclass(frozen=True)
class State:
    """All objects by kind and key, the identity numbers given out, and the revision of it all.

    ``kinds`` of two states share the mapping of every kind that no write between them touched.
    AuthorizationPolicies of ``root_namespace`` hold in every namespace; it never changes.
    """

    revision: int = 0
    kinds: Mapping[str, Mapping[Key, Resource]] = field(default_factory=dict)
    identities: Mapping[WorkloadIdentity, int] = field(default_factory=dict)
    workloads: Workloads = field(default_factory=Workloads)
    root_namespace: str = ROOT_NAMESPACE

    def get(self, key: Key) -> Resource | None:
        return self.kinds.get(key.kind, {}).get(key)

    def of(self, kind: type[R]) -> Mapping[Key, R]:
        """All objects of one kind."""
        return cast("Mapping[Key, R]", self.kinds.get(_NAME_OF[kind], {}))

    def objects(self, kind: Kind) -> Mapping[Key, Resource]:
        """All objects of a kind that is known at run time only."""
        return self.kinds.get(kind.name, {})

    def namespace(self, name: str) -> Namespace | None:
        return self.of(Namespace).get(Key("Namespace", "", name))

    def service(self, namespace: str, name: str) -> Service | None:
        return self.of(Service).get(Key("Service", namespace, name))

    def workload(self, namespace: str, name: str) -> Workload | None:
        return self.of(Workload).get(Key("Workload", namespace, name))

    def node(self, name: str) -> MeshNode | None:
        return self.of(MeshNode).get(Key("MeshNode", "", name))

    def backends(self, service: Service) -> list[Workload]:
        """The workloads that a service's selector selects; an empty selector selects none."""
        wanted = service.spec.selector
        return self.workloads.labelled(service.metadata.namespace, wanted) if wanted else []

    def with_changes(
        self,
        changes: Mapping[Key, Resource | None],
        *,
        revision: int | None = None,
        identities: Mapping[WorkloadIdentity, int] | None = None,
    ) -> State:
        """The state after ``changes`` (None deletes); what is not changed is shared with it."""
        touched: dict[str, dict[Key, Resource]] = {}
        for key, resource in changes.items():
            if key.kind not in touched:
                touched[key.kind] = dict(self.kinds.get(key.kind, {}))
            if resource is None:
                touched[key.kind].pop(key, None)
            else:
                touched[key.kind][key] = resource
        workloads = self.workloads
        if "Workload" in touched:
            keys = [key for key in changes if key.kind == "Workload"]
            workloads = workloads.after(cast("dict[Key, Workload]", touched["Workload"]), keys)
        return State(
            revision=self.revision if revision is None else revision,
            kinds={**self.kinds, **touched},
            identities={**self.identities, **identities} if identities else self.identities,
            workloads=workloads,
            root_namespace=self.root_namespace,
        )
