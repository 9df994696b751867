"""Kubernetes core/v1: Namespace and Service."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from meshapi.resources.meta import Condition, ObjectMeta, Part, SparsePart

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Protocol = Literal["TCP", "UDP"]
AffinitySeconds = Annotated[int, msgspec.Meta(ge=1, le=86_400)]

HEADLESS = "None"  # the cluster IP of a service that has none


class NamespaceSpec(SparsePart, frozen=True):
    pass


class NamespaceStatus(SparsePart, frozen=True):
    phase: str = ""


class Namespace(SparsePart, frozen=True):
    """A room for names; its labels are what ``namespaceSelector`` sees."""

    api_version: Literal["v1"]
    kind: Literal["Namespace"]
    metadata: ObjectMeta
    spec: NamespaceSpec = NamespaceSpec()
    status: NamespaceStatus = NamespaceStatus()


class ServicePort(Part, frozen=True):
    """A port of a service. ``target_port`` is a number or the name of a workload's port."""

    port: Port
    name: str | None = None
    protocol: Protocol = "TCP"
    target_port: int | str | None = None
    app_protocol: str | None = None


class ClientIPConfig(Part, frozen=True):
    timeout_seconds: AffinitySeconds = 10_800


class SessionAffinityConfig(SparsePart, frozen=True):
    client_ip: ClientIPConfig = msgspec.field(name="clientIP")


class ServiceSpec(SparsePart, frozen=True):
    """``internal_traffic_policy: Local`` leaves only the backends of the client's own node."""

    ports: tuple[ServicePort, ...]
    selector: dict[str, str] = {}
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    cluster_ips: tuple[str, ...] = msgspec.field(default=(), name="clusterIPs")
    ip_families: tuple[Literal["IPv4", "IPv6"], ...] = ()
    ip_family_policy: Literal["SingleStack", "PreferDualStack", "RequireDualStack"] | None = None
    type: Literal["ClusterIP"] | None = None
    session_affinity: Literal["None", "ClientIP"] | None = None
    session_affinity_config: SessionAffinityConfig | None = None
    internal_traffic_policy: Literal["Cluster", "Local"] | None = None
    traffic_distribution: Literal["PreferClose", "PreferSameZone", "PreferSameNode"] | None = None

    @property
    def headless(self) -> bool:
        """Whether the service has names only, and no virtual address."""
        return HEADLESS in (self.cluster_ip, *self.cluster_ips)

    @property
    def addresses(self) -> tuple[str, ...]:
        """The service's virtual addresses; none if it is headless."""
        single = (self.cluster_ip,) if self.cluster_ip else ()
        return () if self.headless else self.cluster_ips or single


class ServiceStatus(SparsePart, frozen=True):
    conditions: tuple[Condition, ...] = ()
    load_balancer: dict[str, str] = {}


class Service(SparsePart, frozen=True):
    """A named virtual address and its ports, backed by the workloads that ``selector`` selects."""

    api_version: Literal["v1"]
    kind: Literal["Service"]
    metadata: ObjectMeta
    spec: ServiceSpec
    status: ServiceStatus = ServiceStatus()
