"""From what the maps hold to what they must hold: the steps, in an order that is safe. Pure.

Every look-up that a packet makes while the steps run gives the old answer or the new one: what is
referred to is written before references and removed after them; within a pair of policy classes
longer port prefixes are written first and removed last.
"""

from __future__ import annotations

from dataclasses import dataclass

from nodeagent import layout
from nodeagent.desired.build import MAPS, Table

Entries = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Plan:
    """All ``writes``, map by map in order, then all ``removals``."""

    writes: tuple[tuple[str, Entries], ...]
    removals: tuple[tuple[str, list[bytes]], ...]

    @property
    def written(self) -> int:
        return sum(len(entries) for _, entries in self.writes)

    @property
    def removed(self) -> int:
        return sum(len(keys) for _, keys in self.removals)


def plan(actual: dict[str, Table], wanted: dict[str, Table]) -> Plan:
    """The steps from ``actual`` to ``wanted``; MAPS is in the order of reference."""
    writes: list[tuple[str, Entries]] = []
    removals: list[tuple[str, list[bytes]]] = []
    for name in MAPS:
        held, want = actual[name], wanted[name]
        entries = [(key, value) for key, value in want.items() if held.get(key) != value]
        keys = [key for key in held if key not in want]
        if name == "policy":
            entries.sort(key=lambda entry: -_length(entry[0]))
            keys.sort(key=_length)
        writes.append((name, entries))
        removals.insert(0, (name, keys))
    return Plan(tuple(writes), tuple(removals))


def _length(policy_key: bytes) -> int:
    length: int = layout.POLICY_KEY.unpack(policy_key)[4]
    return length
