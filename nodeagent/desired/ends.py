"""Who workloads and addresses are to policies: the members and classes behind them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from meshapi.resources import MeshNode, Quarantine, Workload
from nodeagent.layout import version_of
from nodeagent.policy.blocks import Blocks
from nodeagent.policy.members import WORLD, Labels, Member, PolicyClass, Shared
from nodeagent.state import Name, NodeState, name_of


def guests(quarantines: Iterable[Quarantine]) -> dict[Name, set[Name]]:
    """The workloads that quarantines let in, each with those that do."""
    found: dict[Name, set[Name]] = {}
    for quarantine in quarantines:
        for peer in quarantine.spec.allow_from:
            if peer.workload:
                found.setdefault((peer.namespace, peer.workload), set()).add(name_of(quarantine))
    return found


class Ends:
    """Members of one state, made once each; ``forget`` what has changed."""

    def __init__(self, state: NodeState, blocks: Blocks) -> None:
        self.state = state
        self.blocks = blocks
        self.welcome: dict[Name, set[Name]] = {}  # guests of quarantines besides the state's
        self._of: dict[Name, dict[int, Member]] = {}
        self._same: dict[tuple[object, ...], Member] = {}
        self._namespaces: dict[str, Labels] = {}

    def forget(self, workloads: Iterable[Name]) -> None:
        for name in workloads:
            self._of.pop(name, None)

    def forget_namespace(self, namespace: str) -> None:
        self._namespaces.pop(namespace, None)

    def workload(self, workload: Workload, version: int) -> Member:
        """A workload when it speaks IP ``version`` (which blocks hold it depends on that)."""
        name = name_of(workload)
        known = self._of.get(name)
        if known is None:
            known = self._of[name] = {}
        found = known.get(version)
        if found is None:
            found = known[version] = self._workload(workload, version)
        return found

    def node_address(self, node: MeshNode, address: str) -> PolicyClass:
        """A node's address: all of its host-network workloads, or just an address."""
        version = version_of(address)
        on_node = self.state.index.on_node.get(node.metadata.name, ())
        found = frozenset(
            (self.workload(workload, version), None)
            for workload in (self.state.workloads[name] for name in on_node)
            if workload.spec.network == "host"
        )
        if found:
            return Shared(found)
        return self._bare(node, address)

    def proxy_address(self, node: MeshNode, address: str) -> PolicyClass:
        """An address from which a node's proxy forwards what others send."""
        return replace(self._bare(node, address), proxy=True)

    def own_processes(self, version: int) -> PolicyClass:
        """This node's processes that belong to no workload: known by its address alone."""
        node = self.state.nodes.get(self.state.node)
        for address in node.spec.addresses if node else ():
            if node is not None and version_of(address) == version:
                return self._bare(node, address)
        return WORLD

    def _bare(self, node: MeshNode, address: str) -> Member:
        """A node's address, whoever of it is there."""
        return Member(
            blocks=self.blocks.holding_address(address),
            node_labels=frozenset(node.metadata.labels.items()),
        )

    def _workload(self, workload: Workload, version: int) -> Member:
        """The member; equal ones are one object, found by what they are made of."""
        state, spec = self.state, workload.spec
        name = name_of(workload)
        host = spec.network == "host"
        node = state.nodes.get(spec.node_name) if host else None
        quarantine = state.quarantine_of(name)
        guest_of = tuple(sorted({*state.index.guests.get(name, ()), *self.welcome.get(name, ())}))
        key = (
            self._namespace(name[0]),
            tuple(workload.metadata.labels.items()),
            spec.service_account,
            spec.ports,
            self._blocks(workload, version) if self.blocks else None,
            tuple(node.metadata.labels.items()) if node else None,
            host,
            quarantine and name_of(quarantine),
            guest_of,
            name[0],
        )
        found = self._same.get(key)
        if found is None:
            found = self._same[key] = Member(
                namespace=name[0],
                namespace_labels=self._namespace(name[0]),
                labels=frozenset(workload.metadata.labels.items()),
                service_account=spec.service_account,
                ports=frozenset((p.name, p.protocol, p.port) for p in spec.ports if p.name),
                blocks=self._blocks(workload, version),
                node_labels=frozenset(node.metadata.labels.items()) if node else None,
                host=host,
                quarantined="/".join(name_of(quarantine)) if quarantine else "",
                guest_of=frozenset("/".join(q) for q in guest_of),
            )
        return found

    def _blocks(self, workload: Workload, version: int) -> frozenset[str]:
        if not self.blocks:
            return frozenset()
        return frozenset().union(
            *(
                self.blocks.holding_address(address)
                for address in self.state.addresses(workload)
                if version_of(address) == version
            )
        )

    def _namespace(self, namespace: str) -> Labels:
        found = self._namespaces.get(namespace)
        if found is None:
            found = frozenset(self.state.namespace_labels(namespace).items())
            self._namespaces[namespace] = found
        return found
