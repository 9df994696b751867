from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from nodeagent import layout
from nodeagent.layout import address_bytes
from nodeagent.policy.blocks import Blocks, block_name
from tests.unit.nodeagent.desired.model import Kernel

TEN = ("10.0.0.0/8", ())
HOLED = ("10.0.0.0/8", ("10.1.0.0/16", "10.2.3.4/32"))
HOLED_NAME = "10.0.0.0/8 except 10.1.0.0/16,10.2.3.4/32"
SIX = ("fd00::/8", ())


def test_a_name_tells_what_is_taken_out() -> None:
    assert block_name(*TEN) == "10.0.0.0/8"
    assert block_name(*HOLED) == HOLED_NAME


def test_an_address_is_in_the_blocks_that_hold_it() -> None:
    blocks = Blocks([TEN, HOLED, SIX])
    assert blocks.holding_address("10.9.9.9") == {"10.0.0.0/8", HOLED_NAME}
    assert blocks.holding_address("10.1.0.1") == {"10.0.0.0/8"}
    assert blocks.holding_address("10.2.3.4") == {"10.0.0.0/8"}
    assert blocks.holding_address("10.2.3.5") == {"10.0.0.0/8", HOLED_NAME}
    assert blocks.holding_address("11.0.0.0") == frozenset()
    assert blocks.holding_address("fd00::1") == {"fd00::/8"}


def test_bits_behind_the_prefix_do_not_count() -> None:
    assert Blocks([("10.1.2.3/8", ())]).holding_address("10.200.0.1") == {"10.1.2.3/8"}


def test_what_is_taken_out_is_touched_too() -> None:
    blocks = Blocks([HOLED])
    assert blocks.touches("10.1.0.1")
    assert not blocks.touches("11.0.0.1")
    assert not blocks.touches("fd00::1")


def test_blocks_are_joined_and_compared() -> None:
    ten, six = Blocks([TEN]), Blocks([SIX])
    assert ten | six == Blocks([SIX, TEN])
    assert (ten | six) ^ six == ten
    assert ten ^ ten == Blocks()
    assert not Blocks()
    assert ten != six


def test_regions_are_told_apart_at_every_edge() -> None:
    regions = {str(n): names for n, names in Blocks([TEN, HOLED]).regions().items()}
    assert regions == {
        "10.0.0.0/8": {"10.0.0.0/8", HOLED_NAME},
        "10.1.0.0/16": {"10.0.0.0/8"},
        "10.2.3.4/32": {"10.0.0.0/8"},
    }


def test_a_block_around_the_mapped_addresses_holds_no_ipv4() -> None:
    regions = {str(n): names for n, names in Blocks([("::/0", ())]).regions().items()}
    assert regions == {"::/0": {"::/0"}, "0.0.0.0/0": frozenset()}


_cidrs = st.sampled_from(
    (
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.2.0/24",
        "::/0",
        "::/64",
        "fd00::/8",
        "fd00::/64",
    )
)
_holes = st.sampled_from(((), ("10.1.0.0/24",), ("10.1.2.3/32", "10.1.2.0/28")))
_addresses = st.sampled_from(
    ("10.1.2.3", "10.1.2.20", "10.1.0.9", "10.2.0.1", "192.0.2.1", "::1", "fd00::1", "fd01::1")
)


@given(
    st.lists(
        st.tuples(_cidrs, _holes).map(lambda b: b if b[0].startswith("10.1.") else (b[0], ())),
        max_size=4,
    ),
    _addresses,
)
def test_the_longest_region_says_what_holds_an_address(
    blocks: list[tuple[str, tuple[str, ...]]], address: str
) -> None:
    """As the kernel looks it up: IPv4 and IPv6 in one table of prefixes."""
    found = Blocks(blocks)
    names: list[frozenset[str]] = [frozenset()]
    table = {}
    for network, held in found.regions().items():
        bits = network.prefixlen + (96 if network.version == 4 else 0)
        key = layout.BLOCK_KEY.pack(bits, address_bytes(str(network.network_address)))
        table[key] = len(names).to_bytes(4, "little")
        names.append(held)
    kernel = Kernel({"blocks": table})
    parsed = ipaddress.ip_address(address)
    expected = {
        block_name(cidr, holes)
        for cidr, holes in blocks
        if parsed in ipaddress.ip_network(cidr)
        and not any(parsed in ipaddress.ip_network(hole) for hole in holes)
    }
    assert names[kernel.outside(address)] == expected == found.holding_address(address)
