"""Units of desired state: what is computed together, and computed again when it may have changed.

A unit is a name; its sheet holds the entries that it wants in the kernel maps and the classes that
these refer to. Units never depend on each other's entries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from nodeagent.desired.ends import Ends
from nodeagent.policy.blocklists import Blocked
from nodeagent.policy.decisions import Rule
from nodeagent.policy.members import PolicyClass
from nodeagent.state import Name, NodeState

PortName = tuple[str, str, int]  # namespace, service, port

# ("address", text) · ("listeners", node) · ("residents", node) · ("local", namespace, name) ·
# ("service", namespace, name) · ("blocks",) · ("domains",) ·
# ("resolvers",) · ("node",) · ("blocked",) · ("interface", index)
Unit = tuple[str, ...]

BLOCKS: Unit = ("blocks",)
DOMAINS: Unit = ("domains",)
RESOLVERS: Unit = ("resolvers",)
NODE: Unit = ("node",)
BLOCKED: Unit = ("blocked",)


class HostEnd(NamedTuple):
    """What is behind the host's end of an interface: the number of the namespace, and whose it is,
    the owner first. (There are several if workloads share a namespace.)
    """

    netns: int
    workloads: tuple[Name, ...]


@dataclass(frozen=True)
class Interfaces:
    """The host's ends of pods' interfaces by index, the indexes of the node's own interfaces, and
    the pods of which something runs but no interface was found.
    """

    ends: Mapping[int, HostEnd] = field(default_factory=dict)
    uplinks: frozenset[int] = frozenset()
    unguarded: frozenset[Name] = frozenset()


@dataclass(frozen=True)
class Facts:
    """What the node itself knows: found cgroups (id and level) and interfaces, what the proxy is
    ready for, which ports of its own workloads fail their health check, and whether it looks at
    identities in SYNs.
    """

    cgroups: dict[Name, tuple[int, int]] = field(default_factory=dict)
    interfaces: Interfaces = Interfaces()
    redirected: frozenset[PortName] = frozenset()
    unhealthy: dict[Name, tuple[int, ...]] = field(default_factory=dict)
    host_netns: int = 0
    proxy4: str = ""
    proxy6: str = ""
    proxy_port: int = 0
    resolvers: tuple[tuple[str, int], ...] = ()  # whose DNS answers are believed: address, port
    identity: bool = False


@dataclass(frozen=True)
class Use:
    """How a unit uses a class: do its connections begin here, do connections to it arrive here."""

    source: bool = False
    destination: bool = False


THERE = Use()
HERE = Use(source=True, destination=True)
FROM_HERE = Use(source=True)


@dataclass
class Sheet:
    """What one unit wants. ``numbered`` gives a class its number, ``closed`` its END_* flags,
    ``rule`` gives a rule its number.
    """

    state: NodeState
    facts: Facts
    ends: Ends
    numbered: Callable[[PolicyClass, Use], int]
    closed: Callable[[int], int]
    rule: Callable[[Rule], int]
    blocked: Blocked
    entries: dict[tuple[str, bytes], bytes] = field(default_factory=dict)
    classes: dict[int, Use] = field(default_factory=dict)
    services: dict[int, PortName] = field(default_factory=dict)

    def put(self, name: str, key: bytes, value: bytes) -> None:
        self.entries[name, key] = value

    def number(self, what: PolicyClass, use: Use = THERE) -> int:
        """The number of a class, which this unit refers to from now on."""
        number = self.numbered(what, use)
        held = self.classes.get(number)
        if held is None or held is THERE:
            self.classes[number] = use
        elif use is not THERE:
            self.classes[number] = Use(
                held.source or use.source, held.destination or use.destination
            )
        return number
