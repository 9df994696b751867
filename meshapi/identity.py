"""Who a workload is: a SPIFFE ID and a mesh-wide number."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from meshapi.errors import HopliteError

# Reserved numbers; a workload's own number is FIRST or above and fits 28 bits, because the node
# proxy sees it as an address in 240.0.0.0/4.
UNKNOWN = 0
WORLD = 1  # an address outside the mesh
NODE = 2  # a mesh node's own processes that are not enrolled
PROXY = 3  # a node proxy
FIRST = 256
LAST = (1 << 28) - 1

RESERVED_NAMES = {UNKNOWN: "unknown", WORLD: "world", NODE: "node", PROXY: "node-proxy"}

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+")
_COMPONENT = re.compile(r"spiffe://([a-z0-9._-]+)/hoplite/(agent|l7proxy)/([a-z0-9.-]+)")


@dataclass(frozen=True, order=True)
class WorkloadIdentity:
    """The identity of a workload: trust domain, namespace and service account.

    Written as ``spiffe://<trust domain>/ns/<namespace>/sa/<service account>`` (SPIFFE-ID
    specification, section 2; the path layout is Istio's).
    """

    trust_domain: str
    namespace: str
    service_account: str

    @property
    def uri(self) -> str:
        return f"spiffe://{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"


def parse_workload_uri(uri: str) -> WorkloadIdentity:
    """Parse a workload's SPIFFE ID; refuse anything that is not ``/ns/<ns>/sa/<sa>``."""
    prefix, _, rest = uri.partition("://")
    trust_domain, _, path = rest.partition("/")
    parts = path.split("/")
    well_formed = (
        prefix == "spiffe"
        and _TRUST_DOMAIN.fullmatch(trust_domain)
        and len(parts) == 4
        and (parts[0], parts[2]) == ("ns", "sa")
        and all(_SEGMENT.fullmatch(p) for p in parts)
    )
    if not well_formed:
        raise HopliteError(
            f"{uri!r} is not a workload's SPIFFE ID",
            fix="write spiffe://<trust domain>/ns/<namespace>/sa/<service account>",
        )
    return WorkloadIdentity(trust_domain, parts[1], parts[3])


def claim(namespace: str, name: str) -> int:
    """The number by which a workload is claimed in the SYN of its connections; never 0.

    Taken from the name, so that every node computes the same one without being told. It has to
    be unique among the workloads of one node only: the tag next to it says which node claims.
    """
    content = f"workload\0{namespace}\0{name}".encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=4).digest(), "big") or 1


def component_uri(trust_domain: str, component: str, node: str) -> str:
    """The SPIFFE ID of a node's own component (``agent`` or ``l7proxy``)."""
    return f"spiffe://{trust_domain}/hoplite/{component}/{node}"


def parse_component_uri(uri: str) -> tuple[str, str, str] | None:
    """``(trust domain, component, node)`` of a node component's SPIFFE ID, or None."""
    match = _COMPONENT.fullmatch(uri)
    return (match[1], match[2], match[3]) if match else None
