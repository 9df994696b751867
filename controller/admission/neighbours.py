"""What else is in the mesh that an object may collide with; found once for many objects. Pure."""

from __future__ import annotations

import ipaddress
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from controller.state import State
from meshapi.resources import ClusterNetworkPolicy, MeshNode, Resource, Service, Workload, key_of
from meshapi.resources.checks import parse_network

_BITS = {4: 32, 6: 128}


@dataclass(frozen=True)
class Held:
    """Addresses of the mesh in a block: one of them and whose, and how many they are."""

    first: str
    number: int


class Neighbours:
    """The objects of one state, by what others are compared with."""

    def __init__(self, state: State) -> None:
        self.state = state

    def of_the_same_priority(self, policy: ClusterNetworkPolicy) -> list[str]:
        """The names of the other policies of its tier and priority."""
        spec, name = policy.spec, policy.metadata.name
        return [n for n in self._by_priority[spec.tier, spec.priority] if n != name]

    def held(self, cidrs: Sequence[str]) -> Mapping[int, Held]:
        """By a block's index: what nodes, workloads and services have addresses in it."""
        first: dict[int, str] = {}
        count: Counter[int] = Counter()
        for version in (4, 6):
            wanted = _by_length(cidrs, version)
            for number, text in self._numbers(version) if wanted else ():
                for shift, networks in wanted.items():
                    for i in networks.get(number >> shift, ()):
                        first.setdefault(i, text)
                        count[i] += 1
        return {
            i: Held(f"{key_of(self._owners[text])}'s {text}", count[i]) for i, text in first.items()
        }

    def _numbers(self, version: int) -> list[tuple[int, str]]:
        return self._numbers4 if version == 4 else self._numbers6

    @cached_property
    def _by_priority(self) -> Mapping[tuple[str, int], list[str]]:
        groups: dict[tuple[str, int], list[str]] = defaultdict(list)
        for key, policy in sorted(self.state.of(ClusterNetworkPolicy).items()):
            groups[policy.spec.tier, policy.spec.priority].append(key.name)
        return groups

    @cached_property
    def _owners(self) -> Mapping[str, Resource]:
        """Whose an address is, as it is written; nodes and services come before workloads."""
        state = self.state
        return {
            **{a: w for w in state.of(Workload).values() for a in w.spec.addresses},
            **{a: s for s in state.of(Service).values() for a in s.spec.addresses},
            **{
                a: n
                for n in state.of(MeshNode).values()
                for a in (*n.spec.addresses, *n.spec.proxy_addresses)
            },
        }

    @cached_property
    def _numbers4(self) -> list[tuple[int, str]]:
        return [(_number4(text), text) for text in self._owners if ":" not in text]

    @cached_property
    def _numbers6(self) -> list[tuple[int, str]]:
        return [(int(ipaddress.IPv6Address(text)), text) for text in self._owners if ":" in text]


def _number4(text: str) -> int:
    """An IPv4 address that has been checked, as a number; much faster than ``ipaddress``."""
    a, b, c, d = text.split(".")
    return int(a) << 24 | int(b) << 16 | int(c) << 8 | int(d)


def _by_length(cidrs: Sequence[str], version: int) -> dict[int, dict[int, list[int]]]:
    """The blocks of a family by the bits behind their prefix: network number -> indexes."""
    wanted: dict[int, dict[int, list[int]]] = {}
    for i, text in enumerate(cidrs):
        block = parse_network(text)
        if block is not None and block.version == version:
            shift = _BITS[version] - block.prefixlen
            number = int(block.network_address) >> shift
            wanted.setdefault(shift, {}).setdefault(number, []).append(i)
    return wanted
