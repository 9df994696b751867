"""What is on this node itself: its workloads, its own processes, the address blocks. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from meshapi.identity import claim
from meshapi.resources import Workload
from nodeagent import layout
from nodeagent.desired import limits
from nodeagent.desired.addresses import local_flags
from nodeagent.desired.units import FROM_HERE, HERE, Facts, Sheet
from nodeagent.layout import End, address_bytes, port_bytes, version_of
from nodeagent.policy.decisions import Rule
from nodeagent.policy.members import Member
from nodeagent.state import Name

_UNSPECIFIED = ("0.0.0.0", "::")  # stand for whoever is behind an interface


@dataclass(frozen=True)
class Settings:
    """The settings map but for what is the writer's: the policy epoch, which counts changes, and
    the seed of hashes.
    """

    proxy4: str
    proxy6: str
    proxy_port: int
    flags: int
    node_class4: int
    node_class6: int
    host_netns: int
    levels: tuple[int, ...]

    def pack(self, epoch: int, seed: int) -> bytes:
        return layout.SETTINGS.pack(
            address_bytes(self.proxy4) if self.proxy4 else bytes(16),
            address_bytes(self.proxy6) if self.proxy6 else bytes(16),
            self.host_netns,
            port_bytes(self.proxy_port),
            self.flags,
            epoch,
            self.node_class4,
            self.node_class6,
            bytes(self.levels[:4]).ljust(4, b"\0"),
            seed,
        )


def workload(sheet: Sheet, name: Name) -> None:
    """A local workload: connections begin and arrive here, and its cgroup tells whose they are."""
    found = _here(sheet, name)
    if found is None:
        return
    classes = [sheet.number(sheet.ends.workload(found, version), HERE) for version in (4, 6)]
    cgroup = sheet.facts.cgroups.get(name)
    if cgroup is None:
        return
    flags = local_flags(sheet, found, classes[0]) & ~int(End.LOCAL)
    if found.spec.network == "host":
        flags |= End.HOST
    elif any(sheet.blocked.rule(address_bytes(a)) for a in found.spec.addresses):
        flags |= End.BLOCKED
    if limits.guards(sheet, found, cgroup[0]):
        flags |= End.LIMITED
    sheet.put(
        "workloads",
        cgroup[0].to_bytes(8, "little"),
        layout.WORKLOAD.pack(found.status.identity, *classes, flags, claim(*name)),
    )


def _here(sheet: Sheet, name: Name) -> Workload | None:
    """A workload, if it is this node's."""
    found = sheet.state.workloads.get(name)
    return found if found is not None and found.spec.node_name == sheet.state.node else None


def interface(sheet: Sheet, index: int) -> None:
    """Who is behind the host's end of an interface: whoever it is, and at each address."""
    end = sheet.facts.interfaces.ends.get(index)
    if end is None:
        return
    for place, name in enumerate(end.workloads):
        found, cgroup = _here(sheet, name), sheet.facts.cgroups.get(name)
        if found is None or cgroup is None or found.spec.network != "pod":
            continue
        for address in (*found.spec.addresses, *(_UNSPECIFIED if place == 0 else ())):
            number = sheet.number(sheet.ends.workload(found, version_of(address)), HERE)
            flags = local_flags(sheet, found, number) & ~int(End.LOCAL)
            if sheet.blocked.rule(address_bytes(address)):
                flags |= End.BLOCKED
            sheet.put(
                "interfaces",
                layout.INTERFACE_KEY.pack(index, address_bytes(address)),
                layout.INTERFACE.pack(
                    cgroup[0], found.status.identity, number, flags, end.netns, cgroup[1]
                ),
            )


def node(sheet: Sheet) -> tuple[int, int]:
    """The classes of this node's own processes, IPv4 and IPv6."""
    four, six = (sheet.number(sheet.ends.own_processes(v), FROM_HERE) for v in (4, 6))
    return four, six


def blocks(sheet: Sheet) -> None:
    """The classes of addresses outside the mesh, by the blocks that hold them."""
    for network, held in sheet.ends.blocks.regions().items():
        number = sheet.number(Member(blocks=held))
        bits = network.prefixlen + (96 if network.version == 4 else 0)
        key = layout.BLOCK_KEY.pack(bits, address_bytes(str(network.network_address)))
        sheet.put("blocks", key, number.to_bytes(4, "little"))


def blocked(sheet: Sheet, numbered: Callable[[Rule], int]) -> None:
    """What is on block lists. Lists may name the same block, so they are one unit."""
    if not sheet.blocked:
        return
    for key, rule in sheet.blocked.entries():
        number = numbered(rule) if rule is not None else 0
        sheet.put("blocked", key, number.to_bytes(4, "little"))


def settings(facts: Facts, classes: tuple[int, int], flags: int) -> Settings:
    return Settings(
        proxy4=facts.proxy4,
        proxy6=facts.proxy6,
        proxy_port=facts.proxy_port,
        flags=flags,
        node_class4=classes[0],
        node_class6=classes[1],
        host_netns=facts.host_netns,
        levels=tuple(sorted({level for _, level in facts.cgroups.values()})),
    )
