"""Policy classes: sets of ends that every policy treats alike.

A class is what policies can see of an end (namespace, labels, named ports, address blocks), not
which policies exist, so that a change of policy changes verdicts and never classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from meshapi.resources import MeshNode, NetworkPolicy, Workload
from meshapi.resources.checks import parse_network
from nodeagent.state import NodeState

Labels = frozenset[tuple[str, str]]
Network = IPv4Network | IPv6Network

WORLD_NUMBER = 0  # the class of addresses that no policy mentions


@dataclass(frozen=True)
class Member:
    """One end as policies see it; a workload has a namespace, an outside address has none."""

    namespace: str = ""
    namespace_labels: Labels = frozenset()
    labels: Labels = frozenset()
    ports: frozenset[tuple[str, str, int]] = frozenset()  # name, protocol, number
    blocks: frozenset[str] = frozenset()  # the ipBlocks that hold its address


@dataclass(frozen=True)
class Shared:
    """An address or virtual address behind which several members stand: all must be allowed.

    ``members`` pairs each with the port that it would be reached on, or None for the one dialled.
    """

    members: frozenset[tuple[Member, int | None]]


PolicyClass = Member | Shared

WORLD = Member()


class Blocks:
    """The address blocks that policies mention, and which of them an address lies in."""

    def __init__(self, policies: Iterable[NetworkPolicy] = ()) -> None:
        self._blocks: dict[str, tuple[Network, tuple[Network, ...]]] = {}
        for policy in policies:
            peers = [p for r in policy.spec.ingress for p in r.from_]
            peers += [p for r in policy.spec.egress for p in r.to]
            for block in (p.ip_block for p in peers if p.ip_block is not None):
                name = block_name(block.cidr, block.except_)
                outer = parse_network(block.cidr)
                inner = tuple(n for n in map(parse_network, block.except_) if n is not None)
                if outer is not None:
                    self._blocks[name] = (outer, inner)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Blocks) and self._blocks == other._blocks

    __hash__ = None  # type: ignore[assignment]

    def __or__(self, other: Blocks) -> Blocks:
        both = Blocks()
        both._blocks = {**self._blocks, **other._blocks}
        return both

    def holding(self, network: Network) -> frozenset[str]:
        """The blocks that hold all of ``network``."""
        return frozenset(
            name
            for name, (outer, inner) in self._blocks.items()
            if _inside(network, outer) and not any(_inside(network, n) for n in inner)
        )

    def holding_address(self, address: str) -> frozenset[str]:
        parsed = ip_address(address)
        network = parse_network(f"{address}/{parsed.max_prefixlen}")
        return self.holding(network) if network is not None and self._blocks else frozenset()

    def regions(self) -> dict[Network, Member]:
        """Every prefix at which the set of holding blocks may change, with the class there."""
        networks = {n for outer, inner in self._blocks.values() for n in (outer, *inner)}
        return {n: Member(blocks=self.holding(n)) for n in networks}


def block_name(cidr: str, excepts: tuple[str, ...]) -> str:
    """One name for one ipBlock."""
    return " except ".join((cidr, ",".join(excepts))) if excepts else cidr


def of_workload(state: NodeState, blocks: Blocks, workload: Workload, version: int) -> Member:
    """The class of a workload when it speaks IP ``version`` (its blocks depend on its address)."""
    held = [
        blocks.holding_address(a)
        for a in state.addresses(workload)
        if ip_address(a).version == version
    ]
    namespace = workload.metadata.namespace
    return Member(
        namespace=namespace,
        namespace_labels=_labels(state.namespace_labels(namespace)),
        labels=_labels(workload.metadata.labels),
        ports=frozenset(
            (p.name, p.protocol, p.port) for p in workload.spec.ports if p.name is not None
        ),
        blocks=frozenset().union(*held),
    )


def of_node_address(state: NodeState, blocks: Blocks, node: MeshNode, address: str) -> PolicyClass:
    """The class of a node's own address: all of its host-network workloads, or just an address."""
    version = ip_address(address).version
    members = frozenset(
        (of_workload(state, blocks, w, version), None)
        for w in state.workloads.values()
        if w.spec.network == "host" and w.spec.node_name == node.metadata.name
    )
    if members:
        return Shared(members)
    return Member(blocks=blocks.holding_address(address))


def canonical(what: PolicyClass) -> object:
    """Content in a stable order, to take a number from."""
    if isinstance(what, Shared):
        return sorted((repr(canonical(m)), port or 0) for m, port in what.members)
    return (
        what.namespace,
        sorted(what.namespace_labels),
        sorted(what.labels),
        sorted(what.ports),
        sorted(what.blocks),
    )


def _labels(labels: Mapping[str, str]) -> Labels:
    return frozenset(labels.items())


def _inside(network: Network, outer: Network) -> bool:
    return network.version == outer.version and network.subnet_of(outer)  # type: ignore[arg-type]
