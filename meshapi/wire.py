"""What travels between a node and the controller besides resources.

Feed (controller to node, one JSON object per line): RESET with what holds for the whole mesh, then
PUT for every object in the node's scope, then REVISION; later PUT and DELETE, each batch closed by
REVISION. PING keeps the line warm.

Channel (websocket opened by the agent): the controller sends ``ChannelRequest``, the agent answers
with any number of ``ChannelReply`` of the same id, the last of them ``done``.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from meshapi.flow import Flow, FlowCoverage, FlowQuery
from meshapi.resources.core import Port
from meshapi.resources.mesh import GROUP, Ejection, MeshNodeSpec, NodeProblem, PolicyCut

BASE = f"/apis/{GROUP}/v1alpha1"
CA_PATH = f"{BASE}/ca"
JOIN_PATH = f"{BASE}/join"
JOIN_TOKENS_PATH = f"{BASE}/jointokens"
APPLY_PATH = f"{BASE}/apply"
FLOWS_PATH = f"{BASE}/flows"
ENFORCEMENT_PATH = f"{BASE}/enforcement"


def node_path(node: str, part: Literal["feed", "report", "channel", "certificates"]) -> str:
    """The path of one of a node's own endpoints."""
    return f"{BASE}/meshnodes/{node}/{part}"


class Wire(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A message between two Hoplite processes."""


class MeshSettings(Wire, frozen=True):
    """What every node must know of the mesh as a whole; the controller's settings decide it.

    ``domain`` is what services' names end in (``web.shop.svc.<domain>``). Policies of
    ``root_namespace`` hold in every namespace.
    """

    trust_domain: str = "hoplite.local"
    domain: str = "hoplite.local"
    root_namespace: str = "hoplite-system"


class FeedFrame(Wire, frozen=True, omit_defaults=True):
    """One line of the feed. ``mesh`` belongs to RESET, ``object`` to PUT, the names to DELETE."""

    type: Literal["RESET", "PUT", "DELETE", "REVISION", "PING"]
    mesh: MeshSettings | None = None
    object: dict[str, Any] | None = None
    kind: str = ""
    namespace: str = ""
    name: str = ""
    revision: int = 0


class WorkloadReport(Wire, frozen=True):
    """A node's word on one of its workloads; health is told of single ports."""

    namespace: str
    name: str
    ready: bool
    message: str = ""
    unhealthy_ports: tuple[Port, ...] = ()


class NodeReport(Wire, frozen=True):
    """What one component of a node puts in force: sent on change and every REPORT_INTERVAL.

    ``revision`` has been applied and read back (agent: from kernel maps, l7proxy: by Envoy's ACK).
    """

    component: Literal["agent", "l7proxy"]
    revision: int
    version: str
    ready: bool
    state: str = ""
    kernel_version: str = ""
    features: dict[str, str] = {}
    problems: tuple[NodeProblem, ...] = ()
    workloads: tuple[WorkloadReport, ...] = ()
    cut: tuple[PolicyCut, ...] = ()
    ejections: tuple[Ejection, ...] = ()


class JoinRequest(Wire, frozen=True):
    """A node asks to belong to the mesh: one-time token, name, addresses and a CSR (PEM).

    ``labels`` are those of its own settings; what an admin has set on its MeshNode stays.
    """

    token: str
    node: str
    spec: MeshNodeSpec
    csr: str
    labels: dict[str, str] = {}


class CertificateRequest(Wire, frozen=True):
    """An agent asks for a certificate for a component of its own node (CSR in PEM)."""

    component: Literal["agent", "l7proxy"]
    csr: str


class CertificateReply(Wire, frozen=True):
    """The signed certificate and the CA that signed it, both PEM."""

    certificate: str
    ca: str


class JoinTokenRequest(Wire, frozen=True):
    node: str
    ttl_seconds: int = 3600


class JoinTokenReply(Wire, frozen=True):
    token: str
    node: str
    expires: str


class ApplyRequest(Wire, frozen=True):
    """Several objects, applied together or not at all."""

    objects: tuple[Any, ...]
    dry_run: bool = False


class ApplyResult(Wire, frozen=True):
    kind: str
    namespace: str
    name: str
    action: Literal["created", "configured", "unchanged"]


class ApplyReply(Wire, frozen=True):
    revision: int
    results: tuple[ApplyResult, ...]
    warnings: tuple[str, ...] = ()


class EnforcementReply(Wire, frozen=True):
    """One line of ``GET …/enforcement?revision=N``, sent on every change until nobody is awaited.

    ``enforcing`` of the ``present`` nodes have acknowledged ``revision``; ``waiting`` names the
    present ones that have not, ``problems`` what these could not put into force, ``absent`` the
    nodes not heard of, for which nobody can wait.
    """

    revision: int
    enforcing: int
    present: int
    waiting: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


class FlowsReply(Wire, frozen=True, omit_defaults=True):
    """One line of ``GET …/flows``: a flow, or at the end what the answer covers."""

    flow: Flow | None = None
    coverage: tuple[FlowCoverage, ...] | None = None


class ChannelRequest(Wire, frozen=True, omit_defaults=True):
    id: str
    op: Literal["flows", "cancel"]
    query: FlowQuery | None = None


class ChannelReply(Wire, frozen=True, omit_defaults=True):
    id: str
    flows: tuple[Flow, ...] = ()
    done: bool = False
    coverage: FlowCoverage | None = None
    error: str = ""


class ProxyReady(Wire, frozen=True):
    """l7proxy to its agent: the service ports whose whole configuration Envoy has acknowledged.

    The agent redirects these and no others; each report replaces the one before.
    """

    revision: int
    services: tuple[ServicePortRef, ...]


class ServicePortRef(Wire, frozen=True):
    namespace: str
    name: str
    port: int
