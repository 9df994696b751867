"""networking.k8s.io/v1: NetworkPolicy."""

from __future__ import annotations

from typing import Literal

import msgspec

from meshapi.resources.core import Port, Protocol
from meshapi.resources.meta import Condition, LabelSelector, ObjectMeta, Part, SparsePart

GROUP = "networking.k8s.io"


class IPBlock(SparsePart, frozen=True):
    cidr: str
    except_: tuple[str, ...] = msgspec.field(default=(), name="except")


class PolicyPeer(SparsePart, frozen=True):
    """A kind of peer: workloads by their or their namespace's labels, or an address block."""

    pod_selector: LabelSelector | None = None
    namespace_selector: LabelSelector | None = None
    ip_block: IPBlock | None = None


class PolicyPort(Part, frozen=True):
    """A port of the destination: number, name, or range to ``end_port``; none means all."""

    protocol: Protocol = "TCP"
    port: Port | str | None = None
    end_port: Port | None = None


class IngressRule(SparsePart, frozen=True):
    from_: tuple[PolicyPeer, ...] = msgspec.field(default=(), name="from")
    ports: tuple[PolicyPort, ...] = ()


class EgressRule(SparsePart, frozen=True):
    to: tuple[PolicyPeer, ...] = ()
    ports: tuple[PolicyPort, ...] = ()


class NetworkPolicySpec(SparsePart, frozen=True):
    pod_selector: LabelSelector
    policy_types: tuple[Literal["Ingress", "Egress"], ...] = ()
    ingress: tuple[IngressRule, ...] = ()
    egress: tuple[EgressRule, ...] = ()


class NetworkPolicyStatus(SparsePart, frozen=True):
    conditions: tuple[Condition, ...] = ()
    connections_cut: int = 0


class NetworkPolicy(SparsePart, frozen=True):
    """Who may reach the selected workloads, and whom they may reach; rules only add permissions."""

    api_version: Literal["networking.k8s.io/v1"]
    kind: Literal["NetworkPolicy"]
    metadata: ObjectMeta
    spec: NetworkPolicySpec
    status: NetworkPolicyStatus = NetworkPolicyStatus()
