"""Takes a lab's programs off its nodes and puts them back: mesh against no mesh."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lab import api, netns
from lab.plan import PlannedNode
from nodeagent.config import DEFAULT_SIZES
from nodeagent.datapath.attach import Attached, Datapath
from nodeagent.datapath.interfacehooks import InterfaceHooks, Target
from nodeagent.layout import map_specs


@dataclass(frozen=True)
class _Node:
    """One node's pinned programs, and the interfaces that its agent has found."""

    plan: PlannedNode
    datapath: Datapath
    attached: Attached
    cgroup: Path
    interfaces: dict[int, Target]


class Programs:
    """Every node's programs; the agents keep running either way."""

    def __init__(self, lab: api.Lab, pins: Path) -> None:
        self._nodes = []
        for node in lab.record.plan.nodes:
            datapath = Datapath(pins / node.name, map_specs(DEFAULT_SIZES))
            attached, cgroup = datapath.load(), lab.cgroup(node.name)
            self._nodes.append(
                _Node(node, datapath, attached, cgroup, _interfaces(datapath.pins / "links"))
            )

    def detach(self) -> None:
        """No program runs for any socket or interface of the lab."""
        for node in self._nodes:
            for link in (node.datapath.pins / "links").iterdir():
                link.unlink()

    def attach(self, *, interfaces: bool = True) -> None:
        """All of them; without ``interfaces`` those of sockets only."""
        for node in self._nodes:
            node.datapath.attach(node.attached, "node", node.cgroup)
            node.datapath.attach(node.attached, "proxy", node.cgroup / "hoplite-l7proxy")
            netns.within(node.plan.netns, partial(_attach, node, interfaces))


def _attach(node: _Node, wanted: bool) -> None:
    InterfaceHooks(node.datapath, node.attached).make(node.interfaces if wanted else {})


def _interfaces(links: Path) -> dict[int, Target]:
    """From the pins of the links: what is attached to which interface."""
    found: dict[int, Target] = {}
    for path in links.glob("*@*"):
        found[int(path.name.partition("@")[2])] = (
            "uplink" if path.name.startswith("uplink") else "veth"
        )
    return found
