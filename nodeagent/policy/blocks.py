"""Address blocks that policies mention, and which of them an address lies in."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address

from meshapi.resources.checks import parse_network

Network = IPv4Network | IPv6Network

_EVERY_IPV4 = IPv4Network("0.0.0.0/0")
_MAPPED = IPv6Network("::ffff:0:0/96")


class Blocks:
    """A set of named blocks, each with what is taken out of it."""

    def __init__(self, blocks: Iterable[tuple[str, tuple[str, ...]]] = ()) -> None:
        self._blocks: dict[str, tuple[Network, tuple[Network, ...]]] = {}
        for cidr, excepts in blocks:
            outer = parse_network(cidr)
            inner = tuple(n for n in map(parse_network, excepts) if n is not None)
            if outer is not None:
                self._blocks[block_name(cidr, excepts)] = (outer, inner)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Blocks) and self._blocks == other._blocks

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def __or__(self, other: Blocks) -> Blocks:
        both = Blocks()
        both._blocks = {**self._blocks, **other._blocks}
        return both

    def __xor__(self, other: Blocks) -> Blocks:
        """The blocks that only one of the two has."""
        either = Blocks()
        names = self._blocks.keys() ^ other._blocks.keys()
        every = {**self._blocks, **other._blocks}
        either._blocks = {name: every[name] for name in names}
        return either

    def touches(self, address: str) -> bool:
        """Whether an address lies within some block, taken out or not."""
        version, value = _parsed(address)
        return any(
            outer.version == version
            and int(outer.network_address) <= value <= int(outer.broadcast_address)
            for outer, _ in self._blocks.values()
        )

    def holding(self, network: Network) -> frozenset[str]:
        """The blocks that hold all of ``network``."""
        return frozenset(
            name
            for name, (outer, inner) in self._blocks.items()
            if _inside(network, outer) and not any(_inside(network, n) for n in inner)
        )

    def holding_address(self, address: str) -> frozenset[str]:
        if not self._blocks:
            return frozenset()
        parsed = ip_address(address)
        network = parse_network(f"{address}/{parsed.max_prefixlen}")
        return self.holding(network) if network is not None else frozenset()

    def regions(self) -> dict[Network, frozenset[str]]:
        """Every prefix at which the set of holding blocks may change, with the set there.

        The kernel keeps IPv4 addresses in ::ffff:0:0/96; a block of IPv6 around it ends there.
        """
        networks = {n for outer, inner in self._blocks.values() for n in (outer, *inner)}
        if any(_inside(_MAPPED, network) for network in networks):
            networks.add(_EVERY_IPV4)
        return {n: self.holding(n) for n in networks}


def _parsed(address: str) -> tuple[int, int]:
    """IP version and value of an address that has been checked."""
    if ":" in address:
        return 6, int(ipaddress.IPv6Address(address))
    a, b, c, d = address.split(".")
    return 4, int(a) << 24 | int(b) << 16 | int(c) << 8 | int(d)


def block_name(cidr: str, excepts: tuple[str, ...]) -> str:
    """One name for one block."""
    return " except ".join((cidr, ",".join(excepts))) if excepts else cidr


def network_of(text: str) -> Network:
    """A block as Istio writes it: a single address is a block of one."""
    return ipaddress.ip_network(text, strict=False)


def _inside(network: Network, outer: Network) -> bool:
    return network.version == outer.version and network.subnet_of(outer)  # type: ignore[arg-type]
