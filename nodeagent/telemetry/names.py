"""Who is behind a number or an address: what turns kernel records into names. Pure.

A ``Names`` belongs to one revision and never changes; records are named by the one in force when
they were read, so that a reused address keeps its former owner in older flows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from meshapi import identity
from meshapi.flow import EndpointKind, FlowEndpoint, FlowService
from meshapi.identity import RESERVED_NAMES
from meshapi.resources import Workload
from nodeagent.desired.build import Desired
from nodeagent.desired.policy import Rule
from nodeagent.desired.services import PortName
from nodeagent.layout import address_bytes, address_text
from nodeagent.state import Name, NodeState

APP_LABELS = ("app.kubernetes.io/name", "app", "lab.hoplite.io/workload")

_RESERVED_KIND: dict[int, EndpointKind] = {
    identity.UNKNOWN: "unknown",
    identity.WORLD: "world",
    identity.NODE: "node",
    identity.PROXY: "proxy",
}


@dataclass(frozen=True)
class Names:
    """Tables from numbers and addresses to what they stand for."""

    node: str = ""
    by_cgroup: dict[int, Workload] = field(default_factory=dict)
    by_address: dict[bytes, Workload] = field(default_factory=dict)
    by_identity: dict[int, Workload] = field(default_factory=dict)
    nodes_by_address: dict[bytes, str] = field(default_factory=dict)
    services_by_address: dict[bytes, Name] = field(default_factory=dict)
    hosts_by_port: dict[tuple[bytes, int], Workload] = field(default_factory=dict)
    services: dict[int, PortName] = field(default_factory=dict)
    rules: dict[int, Rule] = field(default_factory=dict)

    def local(self, cgroup: int, number: int, address: bytes, port: int) -> FlowEndpoint:
        """The end on this node: its cgroup says whose it is."""
        workload = self.by_cgroup.get(cgroup)
        if workload is None:
            return self.remote(number, address, port)
        text = address_text(address)
        if not text and workload.spec.addresses:
            text = workload.spec.addresses[0]
        return _workload(workload, number, text, port)

    def remote(self, number: int, address: bytes, port: int) -> FlowEndpoint:
        """The other end: whose address it is, or else what its identity says."""
        text = address_text(address)
        workload = self.by_address.get(address) or self.hosts_by_port.get((address, port))
        if workload is not None and workload.status.identity == number:
            return _workload(workload, number, text, port)
        virtual = self.services_by_address.get(address)
        if virtual is not None:
            return FlowEndpoint(
                kind="service", namespace=virtual[0], name=virtual[1], address=text, port=port
            )
        node = self.nodes_by_address.get(address, "")
        kind = _RESERVED_KIND.get(number)
        if kind is not None:
            return FlowEndpoint(
                kind=kind,
                name=RESERVED_NAMES[number],
                node=node,
                identity=number,
                address=text,
                port=port,
            )
        known = self.by_identity.get(number)
        return FlowEndpoint(
            kind="workload",
            namespace=known.metadata.namespace if known else "",
            node=node,
            identity=number,
            spiffe_id=known.status.spiffe_id if known else "",
            address=text,
            port=port,
        )

    def service(self, number: int, address: bytes, port: int) -> FlowService | None:
        found = self.services.get(number)
        if found is None:
            return None
        return FlowService(
            namespace=found[0], name=found[1], address=address_text(address), port=port
        )


def build(state: NodeState, desired: Desired, cgroups: dict[Name, tuple[int, int]]) -> Names:
    """The names of one revision."""
    by_address: dict[bytes, Workload] = {}
    by_port: dict[tuple[bytes, int], Workload] = {}
    by_identity: dict[int, Workload] = {}
    for workload in state.workloads.values():
        by_identity.setdefault(workload.status.identity, workload)
        for address in state.addresses(workload):
            raw = address_bytes(address)
            if workload.spec.network == "pod":
                by_address[raw] = workload
            else:
                by_port.update({(raw, p.port): workload for p in workload.spec.ports})
    return Names(
        node=state.node,
        by_cgroup={number: state.workloads[name] for name, (number, _) in cgroups.items()},
        by_address=by_address,
        by_identity=by_identity,
        nodes_by_address={
            address_bytes(a): n.metadata.name
            for n in state.nodes.values()
            for a in (*n.spec.addresses, *n.spec.proxy_addresses)
        },
        services_by_address={
            address_bytes(a): name for name, s in state.services.items() for a in s.spec.addresses
        },
        hosts_by_port=by_port,
        services=desired.services,
        rules=desired.rules,
    )


def _workload(workload: Workload, number: int, address: str, port: int) -> FlowEndpoint:
    labels = workload.metadata.labels
    return FlowEndpoint(
        kind="workload",
        namespace=workload.metadata.namespace,
        name=workload.metadata.name,
        app=next((labels[k] for k in APP_LABELS if k in labels), ""),
        node=workload.spec.node_name,
        identity=number,
        spiffe_id=workload.status.spiffe_id,
        address=address,
        port=port,
    )
