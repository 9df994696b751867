"""policy.networking.k8s.io/v1alpha2: ClusterNetworkPolicy, the admin's rules before and after all.

Fields and meaning are those of kubernetes-sigs/network-policy-api. Rules are tried in the order of
their policies' priority, then in the order of the list; the first one that matches decides.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from meshapi.resources.core import Port
from meshapi.resources.meta import Condition, LabelSelector, ObjectMeta, Part, SparsePart

GROUP = "policy.networking.k8s.io"

Tier = Literal["Admin", "Baseline"]
Action = Literal["Accept", "Deny", "Pass"]
Priority = Annotated[int, msgspec.Meta(ge=0, le=1000)]
RuleName = Annotated[str, msgspec.Meta(max_length=100)]

_UP_TO_25 = msgspec.Meta(max_length=25)
_1_TO_25 = msgspec.Meta(min_length=1, max_length=25)


class NamespacedPods(SparsePart, frozen=True):
    """Workloads by their own and their namespace's labels; an empty selector selects all."""

    pod_selector: LabelSelector
    namespace_selector: LabelSelector = LabelSelector()


class Subject(SparsePart, frozen=True):
    """Whom a policy is about, by exactly one field; never workloads in the host's network."""

    namespaces: LabelSelector | None = None
    pods: NamespacedPods | None = None


class IngressPeer(SparsePart, frozen=True):
    """A kind of source, by exactly one field."""

    namespaces: LabelSelector | None = None
    pods: NamespacedPods | None = None


class EgressPeer(SparsePart, frozen=True):
    """A kind of destination, by exactly one field.

    ``networks`` are address blocks and hold the mesh's own addresses too; a domain name that
    begins with ``*.`` means every name below it.
    """

    namespaces: LabelSelector | None = None
    pods: NamespacedPods | None = None
    nodes: LabelSelector | None = None
    networks: Annotated[tuple[str, ...], _1_TO_25] = ()
    domain_names: Annotated[tuple[str, ...], _1_TO_25] = ()


class PortRange(Part, frozen=True):
    """Ports from ``start`` to ``end``, both included."""

    start: Port
    end: Port


class DestinationPort(SparsePart, frozen=True):
    """A port or a range of them, by exactly one field."""

    number: Port | None = None
    range: PortRange | None = None


class Transport(SparsePart, frozen=True):
    destination_port: DestinationPort


class ProtocolMatch(SparsePart, frozen=True):
    """Traffic of one kind, by exactly one field; ``sctp`` is known only to be refused."""

    tcp: Transport | None = None
    udp: Transport | None = None
    sctp: Any = None
    destination_named_port: str | None = None


class ClusterIngressRule(SparsePart, frozen=True):
    """No ``protocols`` means all of them."""

    action: Action
    from_: Annotated[tuple[IngressPeer, ...], _1_TO_25] = msgspec.field(name="from")
    name: RuleName = ""
    protocols: Annotated[tuple[ProtocolMatch, ...], _1_TO_25] = ()


class ClusterEgressRule(SparsePart, frozen=True):
    """No ``protocols`` means all of them."""

    action: Action
    to: Annotated[tuple[EgressPeer, ...], _1_TO_25]
    name: RuleName = ""
    protocols: Annotated[tuple[ProtocolMatch, ...], _1_TO_25] = ()


class ClusterNetworkPolicySpec(SparsePart, frozen=True):
    """A direction without rules is not touched by the policy; lower ``priority`` goes first."""

    tier: Tier
    priority: Priority
    subject: Subject
    ingress: Annotated[tuple[ClusterIngressRule, ...], _UP_TO_25] = ()
    egress: Annotated[tuple[ClusterEgressRule, ...], _UP_TO_25] = ()


class ClusterNetworkPolicyStatus(SparsePart, frozen=True):
    conditions: tuple[Condition, ...] = ()
    connections_cut: int = 0


class ClusterNetworkPolicy(SparsePart, frozen=True):
    """Rules for the whole mesh: those of tier Admin stand above every NetworkPolicy, those of tier
    Baseline hold where no NetworkPolicy selects the workload.
    """

    api_version: Literal["policy.networking.k8s.io/v1alpha2"]
    kind: Literal["ClusterNetworkPolicy"]
    metadata: ObjectMeta
    spec: ClusterNetworkPolicySpec
    status: ClusterNetworkPolicyStatus = ClusterNetworkPolicyStatus()
