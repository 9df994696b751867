"""Takes a lab's programs off its nodes and puts them back: mesh against no mesh."""

from __future__ import annotations

from pathlib import Path

from lab import api
from nodeagent.config import DEFAULT_SIZES
from nodeagent.datapath.attach import Datapath
from nodeagent.layout import map_specs


class Programs:
    """Every node's pinned programs; the agents keep running either way."""

    def __init__(self, lab: api.Lab, pins: Path) -> None:
        self._nodes = []
        for node in lab.record.plan.nodes:
            datapath = Datapath(pins / node.name, map_specs(DEFAULT_SIZES))
            self._nodes.append((datapath, datapath.load(), lab.cgroup(node.name)))

    def detach(self) -> None:
        """No program runs for any socket of the lab."""
        for datapath, _, _ in self._nodes:
            for link in (datapath.pins / "links").iterdir():
                link.unlink()

    def attach(self) -> None:
        for datapath, attached, cgroup in self._nodes:
            datapath.attach(attached, "node", cgroup)
            datapath.attach(attached, "proxy", cgroup / "hoplite-l7proxy")
