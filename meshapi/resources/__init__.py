"""Typed, Kubernetes-shaped resources."""

from meshapi.resources.authorization import AuthorizationPolicy, AuthorizationRule
from meshapi.resources.containment import BlockList, Quarantine
from meshapi.resources.core import Namespace, NamespaceSpec, Service, ServicePort, ServiceSpec
from meshapi.resources.gateway import (
    BackendRef,
    HTTPRoute,
    HTTPRouteRule,
    HTTPRouteSpec,
    ParentRef,
    RouteMatch,
)
from meshapi.resources.mesh import (
    ComponentStatus,
    Ejection,
    MeshNode,
    MeshNodeSpec,
    MeshNodeStatus,
    NodeProblem,
    PolicyCut,
    Workload,
    WorkloadPort,
    WorkloadSpec,
    WorkloadStatus,
)
from meshapi.resources.meta import Condition, LabelSelector, LabelSelectorRequirement, ObjectMeta
from meshapi.resources.networking import (
    EgressRule,
    IngressRule,
    IPBlock,
    NetworkPolicy,
    NetworkPolicySpec,
    PolicyPeer,
    PolicyPort,
)
from meshapi.resources.policyapi import ClusterNetworkPolicy
from meshapi.resources.registry import KINDS, Key, Kind, Resource, by_word, find, key_of, kind_of
from meshapi.resources.traffic import TrafficPolicy

__all__ = [
    "KINDS",
    "AuthorizationPolicy",
    "AuthorizationRule",
    "BackendRef",
    "BlockList",
    "ClusterNetworkPolicy",
    "ComponentStatus",
    "Condition",
    "EgressRule",
    "Ejection",
    "HTTPRoute",
    "HTTPRouteRule",
    "HTTPRouteSpec",
    "IPBlock",
    "IngressRule",
    "Key",
    "Kind",
    "LabelSelector",
    "LabelSelectorRequirement",
    "MeshNode",
    "MeshNodeSpec",
    "MeshNodeStatus",
    "Namespace",
    "NamespaceSpec",
    "NetworkPolicy",
    "NetworkPolicySpec",
    "NodeProblem",
    "ObjectMeta",
    "ParentRef",
    "PolicyCut",
    "PolicyPeer",
    "PolicyPort",
    "Quarantine",
    "Resource",
    "RouteMatch",
    "Service",
    "ServicePort",
    "ServiceSpec",
    "TrafficPolicy",
    "Workload",
    "WorkloadPort",
    "WorkloadSpec",
    "WorkloadStatus",
    "by_word",
    "find",
    "key_of",
    "kind_of",
]
