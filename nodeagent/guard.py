"""What stands at interfaces: the programs there, and the knowledge of where to put them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from meshapi.resources import Workload
from nodeagent.datapath.interfacehooks import InterfaceHooks, Target
from nodeagent.desired.units import Interfaces
from nodeagent.interfaces import InterfaceFinder
from nodeagent.layout import SETTINGS_BLOCKED, SETTINGS_QUARANTINE
from nodeagent.state import Name


class Guard:
    """Finds interfaces and keeps the programs at them."""

    def __init__(self, finder: InterfaceFinder, hooks: InterfaceHooks) -> None:
        self._finder = finder
        self._hooks = hooks

    def fileno(self) -> int:
        """Readable when interfaces have changed."""
        return self._finder.fileno()

    def find(
        self, workloads: Iterable[Workload], cgroups: Mapping[Name, tuple[int, int]]
    ) -> Interfaces:
        """What is there now."""
        return self._finder.find(workloads, cgroups)

    def make(self, found: Interfaces, flags: int) -> None:
        """Have the programs there and nowhere else; ``flags`` are the settings in force.

        An uplink has none while there is nothing to look for, because it has the most packets.
        """
        wanted: dict[int, Target] = dict.fromkeys(found.ends, "veth")
        if flags & (SETTINGS_BLOCKED | SETTINGS_QUARANTINE):
            wanted |= dict.fromkeys(found.uplinks, "uplink")
        self._hooks.make(wanted)
