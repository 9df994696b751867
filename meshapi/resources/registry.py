"""The kinds this version knows: names on the wire and the type behind each."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from meshapi.errors import HopliteError
from meshapi.resources.authorization import AuthorizationPolicy
from meshapi.resources.containment import BlockList, Quarantine
from meshapi.resources.core import Namespace, Service
from meshapi.resources.gateway import HTTPRoute
from meshapi.resources.mesh import MeshNode, Workload
from meshapi.resources.meta import ObjectMeta
from meshapi.resources.networking import NetworkPolicy
from meshapi.resources.policyapi import ClusterNetworkPolicy
from meshapi.resources.traffic import TrafficPolicy

Resource = (
    Namespace
    | Service
    | HTTPRoute
    | NetworkPolicy
    | ClusterNetworkPolicy
    | AuthorizationPolicy
    | TrafficPolicy
    | Quarantine
    | BlockList
    | MeshNode
    | Workload
)

_MESH = "mesh.hoplite.io/v1alpha1"


@dataclass(frozen=True)
class Kind:
    """One kind of resource: how it is named in manifests, URLs and on the command line."""

    type: type[Resource]
    api_version: str
    name: str
    plural: str
    namespaced: bool
    short_names: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def group(self) -> str:
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        return self.api_version.rpartition("/")[2]

    @property
    def base_path(self) -> str:
        """``/api/v1`` or ``/apis/<group>/<version>``."""
        return f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"

    def path(self, namespace: str = "", name: str = "") -> str:
        """The REST path of a collection or, with a name, of one object."""
        scope = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        tail = f"/{name}" if name else ""
        return f"{self.base_path}{scope}/{self.plural}{tail}"


KINDS: tuple[Kind, ...] = (
    Kind(Namespace, "v1", "Namespace", "namespaces", False, ("ns",)),
    Kind(Service, "v1", "Service", "services", True, ("svc",)),
    Kind(HTTPRoute, "gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes", True, ("route",)),
    Kind(
        NetworkPolicy, "networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", True, ("netpol",)
    ),
    Kind(
        ClusterNetworkPolicy,
        "policy.networking.k8s.io/v1alpha2",
        "ClusterNetworkPolicy",
        "clusternetworkpolicies",
        False,
        ("cnp",),
    ),
    Kind(
        AuthorizationPolicy,
        "security.istio.io/v1",
        "AuthorizationPolicy",
        "authorizationpolicies",
        True,
        ("ap",),
    ),
    Kind(TrafficPolicy, _MESH, "TrafficPolicy", "trafficpolicies", True, ("tp",)),
    Kind(Quarantine, _MESH, "Quarantine", "quarantines", True, ("qt",)),
    Kind(BlockList, _MESH, "BlockList", "blocklists", False, ("bl",)),
    Kind(MeshNode, _MESH, "MeshNode", "meshnodes", False, ("mn",), ("node", "nodes")),
    Kind(Workload, _MESH, "Workload", "workloads", True, ("wl",)),
)

_BY_GVK = {(k.api_version, k.name): k for k in KINDS}
_BY_TYPE = {k.type: k for k in KINDS}
_BY_WORD = {
    word.lower(): k for k in KINDS for word in (k.name, k.plural, *k.short_names, *k.aliases)
}


def kind_of(resource: Resource) -> Kind:
    return _BY_TYPE[type(resource)]


def find(api_version: object, kind: object) -> Kind:
    """The kind of a manifest; an unknown one is refused with what was probably meant."""
    found = _BY_GVK.get((str(api_version), str(kind)))
    if found:
        return found
    same_name = [k for k in KINDS if k.name == kind]
    if same_name:
        raise HopliteError(
            f"apiVersion {api_version!r} of {kind} is not known",
            where="$.apiVersion",
            fix=f"write apiVersion: {same_name[0].api_version}",
        )
    names = [k.name for k in KINDS]
    near = difflib.get_close_matches(str(kind), names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known kinds are {', '.join(sorted(names))}"
    raise HopliteError(f"kind {kind!r} is not known", where="$.kind", fix=hint)


def by_word(word: str) -> Kind:
    """The kind that a command line means by ``word``: kind, plural or short name, any case."""
    found = _BY_WORD.get(word.lower())
    if found:
        return found
    plurals = [k.plural for k in KINDS]
    near = difflib.get_close_matches(word.lower(), list(_BY_WORD), n=1)
    hint = (
        f"did you mean {_BY_WORD[near[0]].plural}?"
        if near
        else f"known are {', '.join(sorted(plurals))}"
    )
    raise HopliteError(f"{word!r} is not a kind of resource", fix=hint)


@dataclass(frozen=True, order=True)
class Key:
    """Which object: kind, namespace (empty if cluster-wide) and name."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        place = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {place}{self.name}"


def key_of(resource: Resource) -> Key:
    meta: ObjectMeta = resource.metadata
    return Key(resource.kind, meta.namespace, meta.name)
