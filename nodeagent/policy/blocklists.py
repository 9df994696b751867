"""Which addresses are on block lists. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from meshapi.resources import BlockList
from nodeagent.layout import BLOCK_KEY, address_bytes, is4
from nodeagent.policy.blocks import network_of
from nodeagent.policy.decisions import Rule

_BITS = 128
_FOUR = 96  # where an IPv4 address begins in the 128 bits


class Blocked:
    """The prefixes of block lists, found as the kernel's trie finds them: the longest decides."""

    def __init__(self, lists: Iterable[BlockList] = ()) -> None:
        self._rules: dict[tuple[int, int], Rule] = {}  # by length and bits
        for blocks in sorted(lists, key=lambda b: b.metadata.name):
            for index, text in enumerate(blocks.spec.cidrs):
                rule = Rule("BlockList", blocks.metadata.name, f"cidrs[{index}]")
                self._rules.setdefault(_prefix(text), rule)
        self._lengths = sorted({length for length, _ in self._rules}, reverse=True)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def rule(self, address: bytes) -> Rule | None:
        """What blocks an address."""
        bits = int.from_bytes(address, "big")
        for length in self._lengths:
            found = self._rules.get((length, bits >> (_BITS - length)))
            if found is not None and (length >= _FOUR or not is4(address)):
                return found
        return None

    def entries(self) -> Iterator[tuple[bytes, Rule | None]]:
        """Every prefix as the kernel's key, and its rule.

        IPv4 lies within ::/0 there, and so is taken out of shorter prefixes where it has no rule.
        """
        rules: dict[tuple[int, int], Rule | None] = {_prefix("0.0.0.0/0"): None, **self._rules}
        for (length, bits), rule in rules.items():
            yield BLOCK_KEY.pack(length, (bits << (_BITS - length)).to_bytes(16, "big")), rule


def _prefix(text: str) -> tuple[int, int]:
    """Length and leading bits among the 128 of an address."""
    network = network_of(text)
    length = network.prefixlen + (_FOUR if network.version == 4 else 0)
    first = address_bytes(str(network.network_address))
    return length, int.from_bytes(first, "big") >> (_BITS - length)
