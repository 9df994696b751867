"""Desired state: what every kernel map must hold, from what the mesh wants. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address

from meshapi import identity
from meshapi.resources import Workload
from nodeagent import layout
from nodeagent.desired.alias import alias_table
from nodeagent.desired.classes import (
    WORLD,
    WORLD_NUMBER,
    Blocks,
    Member,
    PolicyClass,
    canonical,
    of_node_address,
    of_workload,
)
from nodeagent.desired.numbers import Numbering
from nodeagent.desired.policy import Direction, PolicySet, Protocol, Rule
from nodeagent.desired.ports import longest_prefix_table
from nodeagent.desired.services import PortName, VirtualPort, virtual_ports
from nodeagent.layout import End, address_bytes, port_bytes
from nodeagent.state import Name, NodeState

Table = dict[bytes, bytes]
MAPS = ("policy", "slots", "blocks", "listeners", "peers", "workloads", "services")


@dataclass(frozen=True)
class Facts:
    """What the node itself knows: found cgroups (id and level) and what the proxy is ready for."""

    cgroups: dict[Name, tuple[int, int]] = field(default_factory=dict)
    redirected: frozenset[PortName] = frozenset()
    host_netns: int = 0
    proxy4: str = ""
    proxy6: str = ""
    proxy_port: int = 0


@dataclass(frozen=True)
class Settings:
    """The settings map but for the policy epoch, which counts changes and is the writer's."""

    proxy4: str
    proxy6: str
    proxy_port: int
    flags: int
    port_lengths: int
    node_class4: int
    node_class6: int
    host_netns: int
    levels: tuple[int, ...]

    def pack(self, epoch: int, port_lengths: int) -> bytes:
        return layout.SETTINGS.pack(
            address_bytes(self.proxy4),
            address_bytes(self.proxy6),
            self.host_netns,
            port_bytes(self.proxy_port),
            self.flags,
            port_lengths,
            epoch,
            self.node_class4,
            self.node_class6,
            bytes(self.levels[:4]).ljust(4, b"\0"),
        )


@dataclass(frozen=True)
class Former:
    """What is only there because the time before still refers to it."""

    classes: frozenset[int]
    slots: frozenset[bytes]


@dataclass(frozen=True)
class Desired:
    """Every map's wanted content, and the meaning of the numbers in it."""

    tables: dict[str, Table]
    settings: Settings
    classes: dict[int, PolicyClass]
    rules: dict[int, Rule]
    services: dict[int, PortName]
    blocks: Blocks
    policies: PolicySet
    former: Former | None = None


def build(
    state: NodeState,
    facts: Facts,
    previous: Desired | None = None,
    blocks: Blocks | None = None,
) -> Desired:
    """What the kernel must hold for ``state``.

    With ``previous``, the classes and slot tables of the time before are kept as well, and an end
    that was closed keeps being looked up, so that no packet that meets the change half-way finds a
    reference to nothing or no lock on either door. A second build without it drops that.
    ``blocks`` are the address blocks that classes tell apart, at least those of the policies.
    """
    return _Builder(state, facts, blocks or Blocks(state.policies), previous).build()


class _Builder:
    def __init__(
        self, state: NodeState, facts: Facts, blocks: Blocks, previous: Desired | None
    ) -> None:
        self.state = state
        self.facts = facts
        self.blocks = blocks
        self.previous = previous
        self.policies = PolicySet(state.policies)
        self.class_numbers = Numbering()
        self.rule_numbers = Numbering()
        self.service_numbers = Numbering()
        self.classes: dict[int, PolicyClass] = {WORLD_NUMBER: WORLD}
        self.sources: set[int] = {WORLD_NUMBER}  # classes from which this node connects
        self.destinations: set[int] = set()  # classes to which connections arrive here
        self.rules: dict[int, Rule] = {}
        self.services: dict[int, PortName] = {}
        self.tables: dict[str, Table] = {name: {} for name in MAPS}

    def build(self) -> Desired:
        self._workloads()
        self._peers()
        self._blocks()
        for port in virtual_ports(self.state, self.blocks, self.facts.redirected):
            self._virtual_port(port)
        node_classes = self._node_classes()
        former = self._keep(self.previous) if self.previous is not None else None
        self._policy()
        redirects = any(
            layout.SERVICE.unpack(v)[5] == layout.SERVICE_REDIRECT
            for v in self.tables["services"].values()
        )
        facts = self.facts
        settings = Settings(
            proxy4=facts.proxy4,
            proxy6=facts.proxy6,
            proxy_port=facts.proxy_port,
            flags=layout.SETTINGS_L7 if redirects else 0,
            port_lengths=self._port_lengths(),
            node_class4=node_classes[0],
            node_class6=node_classes[1],
            host_netns=facts.host_netns,
            levels=tuple(sorted({level for _, level in facts.cgroups.values()})),
        )
        return Desired(
            self.tables,
            settings,
            self.classes,
            self.rules,
            self.services,
            self.blocks,
            self.policies,
            former,
        )

    # -- ends ------------------------------------------------------------------------------------

    def _class(self, what: PolicyClass) -> int:
        number = WORLD_NUMBER if what == WORLD else self.class_numbers.of(canonical(what))
        self.classes[number] = what
        return number

    def _flags(self, what: PolicyClass) -> End:
        flags = End(0)
        if self._closed(what, "egress"):
            flags |= End.EGRESS
        if self._closed(what, "ingress"):
            flags |= End.INGRESS
        return flags

    def _closed(self, what: PolicyClass, direction: Direction) -> bool:
        """Whether verdicts must be looked up for this end, now or by the time before."""
        return self.policies.restricts(what, direction) or (
            self.previous is not None and self.previous.policies.restricts(what, direction)
        )

    def _workloads(self) -> None:
        for workload in self.state.local:
            name = (workload.metadata.namespace, workload.metadata.name)
            classes = [self._workload_class(workload, version) for version in (4, 6)]
            self.sources.update(classes)
            self.destinations.update(classes)
            found = self.facts.cgroups.get(name)
            if found is None:
                continue
            flags = self._flags(self.classes[classes[0]])
            if workload.spec.network == "host":
                flags |= End.HOST
            self.tables["workloads"][found[0].to_bytes(8, "little")] = layout.WORKLOAD.pack(
                workload.status.identity, *classes, flags
            )

    def _workload_class(self, workload: Workload, version: int) -> int:
        return self._class(of_workload(self.state, self.blocks, workload, version))

    def _peers(self) -> None:
        for workload in self.state.workloads.values():
            if workload.spec.network == "host":
                self._host_listeners(workload)
                continue
            for address in workload.spec.addresses:
                number = self._workload_class(workload, ip_address(address).version)
                flags = self._flags(self.classes[number])
                if workload.spec.node_name == self.state.node:
                    flags |= End.LOCAL
                self._peer(address, workload.status.identity, number, flags)
        for node in self.state.nodes.values():
            ours = node.metadata.name == self.state.node
            for address in node.spec.addresses:
                what = of_node_address(self.state, self.blocks, node, address)
                number = self._class(what)
                flags = self._flags(what) | End.SHARED
                self._peer(
                    address, identity.NODE, number, End.LOCAL_NODE | End.SHARED if ours else flags
                )
            for address in node.spec.proxy_addresses:
                self._peer(address, identity.PROXY, WORLD_NUMBER, End.PROXY)

    def _host_listeners(self, workload: Workload) -> None:
        """A host-network workload is known by its ports where its address is shared."""
        local = workload.spec.node_name == self.state.node
        for address in self.state.addresses(workload):
            number = self._workload_class(workload, ip_address(address).version)
            value = layout.PEER.pack(
                workload.status.identity,
                number,
                self._flags(self.classes[number]) | (End.LOCAL if local else End(0)),
            )
            for port in workload.spec.ports:
                protocol = layout.PROTOCOLS[port.protocol]
                self.tables["listeners"][
                    layout.ENDPOINT.pack(address_bytes(address), port_bytes(port.port), protocol)
                ] = value
                if local:  # dialled on loopback, from the host's own network
                    self.tables["listeners"][
                        layout.ENDPOINT.pack(bytes(16), port_bytes(port.port), protocol)
                    ] = value

    def _peer(self, address: str, number: int, class_number: int, flags: End) -> None:
        self.tables["peers"][address_bytes(address)] = layout.PEER.pack(number, class_number, flags)

    def _blocks(self) -> None:
        for network, member in self.blocks.regions().items():
            number = self._class(member)
            bits = network.prefixlen + (96 if network.version == 4 else 0)
            key = layout.BLOCK_KEY.pack(bits, address_bytes(str(network.network_address)))
            self.tables["blocks"][key] = number.to_bytes(4, "little")

    def _node_classes(self) -> tuple[int, int]:
        """The classes of this node's own, unenrolled processes: those of its addresses alone."""
        numbers = {4: WORLD_NUMBER, 6: WORLD_NUMBER}
        node = self.state.nodes.get(self.state.node)
        for address in node.spec.addresses if node else ():
            held = self.blocks.holding_address(address)
            if held:
                version = ip_address(address).version
                numbers[version] = self._class(Member(blocks=held))
        self.sources.update(numbers.values())
        return numbers[4], numbers[6]

    # -- services --------------------------------------------------------------------------------

    def _virtual_port(self, virtual: VirtualPort) -> None:
        service = self.service_numbers.of(*virtual.service, virtual.protocol)
        self.services[service] = virtual.service
        self._peer(virtual.address, identity.UNKNOWN, WORLD_NUMBER, End.VIP)
        key = layout.ENDPOINT.pack(
            address_bytes(virtual.address),
            port_bytes(virtual.port),
            layout.PROTOCOLS[virtual.protocol],
        )
        if virtual.redirect is not None:
            number = self._class(virtual.redirect)
            value = layout.SERVICE.pack(
                service, number, 0, 0, self._flags(virtual.redirect), layout.SERVICE_REDIRECT
            )
        else:
            slots, epoch = self._slots(service, virtual)
            value = layout.SERVICE.pack(service, 0, slots, epoch, 0, layout.SERVICE_LB)
        self.tables["services"][key] = value

    def _slots(self, service: int, virtual: VirtualPort) -> tuple[int, int]:
        packed = []
        for backend in virtual.backends:
            number = self._class(backend.member)
            flags = self._flags(backend.member)
            if backend.workload.spec.node_name == self.state.node:
                flags |= End.LOCAL
            packed.append(
                layout.BACKEND.pack(
                    address_bytes(backend.address),
                    port_bytes(backend.port),
                    flags,
                    backend.workload.status.identity,
                    number,
                )
            )
        rows = alias_table([1] * len(packed))
        epoch = Numbering().of(service, tuple(packed))
        for index, (first, second, threshold) in enumerate(rows):
            self.tables["slots"][layout.SLOT_KEY.pack(service, epoch, index)] = layout.SLOT.pack(
                packed[first], packed[second], threshold
            )
        return len(rows), epoch

    # -- policy ----------------------------------------------------------------------------------

    def _keep(self, previous: Desired) -> Former:
        """Take over what only the time before refers to (and not what that had itself kept)."""
        older = previous.former or Former(frozenset(), frozenset())
        classes = previous.classes.keys() - older.classes - self.classes.keys()
        slots = previous.tables["slots"].keys() - older.slots - self.tables["slots"].keys()
        self.classes.update({number: previous.classes[number] for number in classes})
        self.tables["slots"].update({key: previous.tables["slots"][key] for key in slots})
        return Former(frozenset(classes), frozenset(slots))

    def _policy(self) -> None:
        closed: dict[Direction, set[int]] = {
            direction: {n for n, what in self.classes.items() if self._closed(what, direction)}
            for direction in ("egress", "ingress")
        }
        for source, destination in self._pairs(closed):
            for protocol in ("TCP", "UDP"):
                self._pair(source, destination, protocol)

    def _pairs(self, closed: dict[Direction, set[int]]) -> Iterable[tuple[int, int]]:
        """Pairs of which this node sees connections and of which at least one end is closed."""
        everything = set(self.classes)
        pairs = {(s, d) for s in self.sources & closed["egress"] for d in everything}
        pairs |= {(s, d) for s in self.sources for d in closed["ingress"]}
        pairs |= {(s, d) for s in everything for d in self.destinations & closed["ingress"]}
        return pairs

    def _pair(self, source: int, destination: int, protocol: Protocol) -> None:
        segments = self.policies.decide(self.classes[source], self.classes[destination], protocol)
        for (port, length), decision in longest_prefix_table(segments).items():
            rule = 0
            if decision.rule is not None:
                rule = self.rule_numbers.of(decision.rule)
                self.rules[rule] = decision.rule
            key = layout.POLICY_KEY.pack(
                source, destination, port, layout.PROTOCOLS[protocol], length
            )
            self.tables["policy"][key] = layout.DECISION.pack(
                rule, decision.verdict, decision.reason
            )

    def _port_lengths(self) -> int:
        lengths = 1  # the default, length 0, is always asked
        for key in self.tables["policy"]:
            lengths |= 1 << layout.POLICY_KEY.unpack(key)[4]
        return lengths
