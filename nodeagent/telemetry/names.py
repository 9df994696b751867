"""Who is behind a number or an address: what turns kernel records into names. Pure.

A ``Names`` belongs to one revision; records are named by the one in force when they were read, so
that a reused address keeps its former owner in older flows. (Numbers are taken from content: what
they stand for never changes, and all revisions share those tables.)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from meshapi import identity
from meshapi.flow import EndpointKind, FlowEndpoint, FlowService
from meshapi.identity import RESERVED_NAMES
from meshapi.resources import Workload
from nodeagent.desired.units import PortName
from nodeagent.layout import address_text
from nodeagent.policy.decisions import Rule
from nodeagent.state import Name, NodeState

APP_LABELS = ("app.kubernetes.io/name", "app", "lab.hoplite.io/workload")

_RESERVED_KIND: dict[int, EndpointKind] = {
    identity.UNKNOWN: "unknown",
    identity.WORLD: "world",
    identity.NODE: "node",
    identity.PROXY: "proxy",
}


_claim = lru_cache(4096)(identity.claim)


@dataclass(frozen=True)
class Names:
    """One revision's objects, and what the numbers in kernel records stand for."""

    state: NodeState
    cgroups: dict[int, Name]
    services: dict[int, PortName]
    rules: dict[int, Rule]

    @property
    def node(self) -> str:
        return self.state.node

    def local(self, cgroup: int, number: int, address: bytes, port: int) -> FlowEndpoint:
        """The end on this node: its cgroup says whose it is."""
        workload = self.state.workloads.get(self.cgroups.get(cgroup, ("", "")))
        if workload is None:
            return self.remote(number, address, port)
        text = address_text(address)
        if not text and workload.spec.addresses:
            text = workload.spec.addresses[0]
        return _workload(workload, number, text, port)

    def remote(self, number: int, address: bytes, port: int) -> FlowEndpoint:
        """The other end: whose address it is, or else what its identity says."""
        text = address_text(address)
        workload = self._at(text, port)
        if workload is not None and workload.status.identity == number:
            return _workload(workload, number, text, port)
        index = self.state.index
        virtual = index.virtual.get(text)
        if virtual:
            return FlowEndpoint(
                kind="service", namespace=virtual[0][0], name=virtual[0][1], address=text, port=port
            )
        node = next(iter(index.node_at.get(text) or index.proxy_at.get(text) or ("",)))
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
        known = self._of_identity(number)
        return FlowEndpoint(
            kind="workload",
            namespace=known.metadata.namespace if known else "",
            node=node,
            identity=number,
            spiffe_id=known.status.spiffe_id if known else "",
            address=text,
            port=port,
        )

    def caller(self, claim: int, number: int, address: bytes, port: int) -> FlowEndpoint:
        """The other end, known by the claim that it has proved and not by its address."""
        text = address_text(address)
        for node in self._nodes(text):
            for name in self.state.index.on_node.get(node, ()):
                workload = self.state.workloads[name]
                if _claim(*name) == claim and workload.status.identity == number:
                    return _workload(workload, number, text, port)
        return self.remote(number, address, port)

    def _nodes(self, address: str) -> tuple[str, ...]:
        """The nodes whose address it is, or on which the workload with it runs."""
        index = self.state.index
        pods = index.at_address.get(address, ())
        return (
            *index.node_at.get(address, ()),
            *index.proxy_at.get(address, ()),
            *(self.state.workloads[name].spec.node_name for name in pods),
        )

    def _at(self, address: str, port: int) -> Workload | None:
        """The workload behind an address, or a port of a node's address."""
        state, index = self.state, self.state.index
        for name in reversed(index.at_address.get(address, ())):
            return state.workloads[name]
        for node in index.node_at.get(address, ()):
            for name in index.on_node.get(node, ()):
                workload = state.workloads[name]
                if workload.spec.network == "host" and any(
                    p.port == port for p in workload.spec.ports
                ):
                    return workload
        return None

    def _of_identity(self, number: int) -> Workload | None:
        """A workload of an identity: of several, the first by name."""
        for name in self.state.index.identified.get(number, ()):
            return self.state.workloads[name]
        return None

    def service(self, number: int, address: bytes, port: int) -> FlowService | None:
        found = self.services.get(number)
        if found is None:
            return None
        return FlowService(
            namespace=found[0], name=found[1], address=address_text(address), port=port
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
