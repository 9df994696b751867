"""A change of the kernel maps, in an order that is safe. Pure.

Every look-up that a packet makes while the steps run gives the old answer or the new one: what is
referred to is written before references and removed after them. What a packet half-way may still
have a reference to is removed later, when there is no such packet any more.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nodeagent.desired.local import Settings
from nodeagent.layout import BLOCK_KEY, CLASS_ANY, POLICY_KEY

Table = dict[bytes, bytes]
Entries = list[tuple[bytes, bytes]]

# In the order of reference: each map may be referred to by those after it. A service is there
# before its address is known as a service's, so that a new one is never without its ports.
MAPS = (
    "port_rules",
    "policy",
    "domains",
    "resolvers",
    "backends",
    "slots",
    "limits",
    "services",
    "blocks",
    "blocked",
    "listeners",
    "peers",
    "guards",
    "residents",
    "workloads",
    "interfaces",
)


_PREFIXES = ("blocks", "blocked")  # tables of address blocks: the longest that holds one decides


@dataclass
class Delta:
    """Entries to write and keys to remove, by map; ``late`` are to be removed a while after."""

    settings: Settings | None = None  # under which the entries hold; set when it is complete
    writes: dict[str, Table] = field(default_factory=lambda: {name: {} for name in MAPS})
    removals: dict[str, set[bytes]] = field(default_factory=lambda: {name: set() for name in MAPS})
    late: dict[str, set[bytes]] = field(default_factory=lambda: {name: set() for name in MAPS})

    @property
    def written(self) -> int:
        return sum(len(table) for table in self.writes.values())

    @property
    def removed(self) -> int:
        return sum(len(keys) for part in (self.removals, self.late) for keys in part.values())

    def put(self, name: str, key: bytes, value: bytes) -> None:
        self.writes[name][key] = value
        self.removals[name].discard(key)
        self.late[name].discard(key)

    def drop(self, name: str, key: bytes, *, late: bool) -> None:
        self.writes[name].pop(key, None)
        (self.late if late else self.removals)[name].add(key)

    def retire(self, name: str, key: bytes, value: bytes) -> None:
        """Remove it a while after; until then it has another value."""
        self.writes[name][key] = value
        self.late[name].add(key)


def difference(actual: dict[str, Table], wanted: dict[str, Table]) -> Delta:
    """What leads from ``actual`` to ``wanted``."""
    delta = Delta()
    for name in MAPS:
        held, want = actual[name], wanted[name]
        delta.writes[name] = {k: v for k, v in want.items() if held.get(k) != v}
        delta.removals[name] = held.keys() - want.keys()
    return delta


def ordered_writes(delta: Delta) -> list[tuple[str, Entries]]:
    """What is referred to first; what is looked up first before what holds otherwise.

    That is, a pair's own entry before its ends' defaults, and a longer prefix before a shorter one.
    """
    steps = []
    for name in MAPS:
        entries = list(delta.writes[name].items())
        if name == "policy":
            entries.sort(key=lambda entry: CLASS_ANY in POLICY_KEY.unpack(entry[0]))
        elif name in _PREFIXES:
            entries.sort(key=lambda entry: _bits(entry[0]), reverse=True)
        steps.append((name, entries))
    return steps


def ordered_removals(removals: dict[str, set[bytes]]) -> list[tuple[str, list[bytes]]]:
    """References first, and a shorter prefix before a longer one, which may be taken out of it."""
    steps = []
    for name in reversed(MAPS):
        keys = list(removals[name])
        if name in _PREFIXES:
            keys.sort(key=_bits)
        steps.append((name, keys))
    return steps


def _bits(key: bytes) -> int:
    """How long a prefix is."""
    bits: int = BLOCK_KEY.unpack(key)[0]
    return bits
