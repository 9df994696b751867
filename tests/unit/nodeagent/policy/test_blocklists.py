"""Block lists: what the agent looks up, and what it writes for the kernel, is what they say."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshapi.codec import decode
from meshapi.resources import BlockList, key_of
from meshapi.watch import Snapshot
from nodeagent.desired.compiler import Compiler
from nodeagent.desired.units import Facts
from nodeagent.layout import SETTINGS_BLOCKED, address_bytes
from nodeagent.policy.blocklists import Blocked
from nodeagent.state import Changes, build
from tests.unit.nodeagent.desired.model import Kernel

CIDRS = (
    "0.0.0.0/0",
    "::/0",
    "::/8",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.3",
    "fd00::/8",
    "fd00:1::/32",
    "fd00:1::5",
)
ADDRESSES = (
    "10.1.2.3",
    "10.1.9.9",
    "10.9.9.9",
    "192.0.2.1",
    "fd00:1::5",
    "fd00:2::5",
    "2001:db8::1",
)


def lists(cidrs: list[list[str]]) -> list[BlockList]:
    return [
        decode(
            {
                "apiVersion": "mesh.hoplite.io/v1alpha1",
                "kind": "BlockList",
                "metadata": {"name": f"b{i}"},
                "spec": {"cidrs": part},
            }
        )
        for i, part in enumerate(cidrs)
    ]


def compiled(found: list[BlockList]) -> Compiler:
    objects = {key_of(blocks): blocks for blocks in found}
    compiler = Compiler("n1")
    compiler.update(build("n1", Snapshot(1, objects)), Changes({}, objects), Facts())
    return compiler


some = st.lists(st.lists(st.sampled_from(CIDRS), min_size=1, max_size=3, unique=True), max_size=3)


@given(some)
def test_an_address_is_blocked_if_some_block_holds_it(cidrs: list[list[str]]) -> None:
    """Plainly asked of every block; IPv4 lies in no IPv6 block, ::/0 included."""
    found = lists(cidrs)
    blocked, compiler = Blocked(found), compiled(found)
    kernel = Kernel(compiler.tables)
    for text in ADDRESSES:
        holding = {
            (blocks.metadata.name, f"cidrs[{i}]")
            for blocks in found
            for i, cidr in enumerate(blocks.spec.cidrs)
            if ipaddress.ip_address(text) in ipaddress.ip_network(cidr)
        }
        rule = blocked.rule(address_bytes(text))
        assert (rule is not None) == bool(holding)
        number = kernel.blocked_by(text)
        assert (compiler.rules[number] if number else None) == rule
        assert rule is None or (rule.policy, rule.text) in holding
    assert bool(compiler.settings.flags & SETTINGS_BLOCKED) == bool(found)


def test_the_longest_prefix_names_the_rule() -> None:
    rule = Blocked(lists([["10.0.0.0/8"], ["10.1.0.0/16"]])).rule(address_bytes("10.1.2.3"))
    assert rule is not None
    assert (rule.kind, rule.policy) == ("BlockList", "b1")


@pytest.mark.parametrize("address", ["10.1.2.3", "fd00::1"])
def test_without_lists_nothing_is_blocked(address: str) -> None:
    assert Blocked().rule(address_bytes(address)) is None
    assert not compiled([]).tables["blocked"]
