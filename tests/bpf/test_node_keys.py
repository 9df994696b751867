"""The table of keys that nodes share, in the kernel."""

from __future__ import annotations

import pytest

from nodeagent.datapath.attach import Datapath
from nodeagent.datapath.libbpf import KernelError
from nodeagent.datapath.node_keys import NodeKeys
from nodeagent.layout import KEY_RECEIVING, KEY_SENDING, NODE_KEY, NODE_KEY_ID

pytestmark = pytest.mark.root


def entry(node: int, use: int, epochs: int, secret: int) -> tuple[bytes, bytes]:
    key = NODE_KEY_ID.pack(node, use, 0 if use == KEY_SENDING else epochs)
    return key, NODE_KEY.pack(bytes([secret]) * 16, epochs)


def test_it_holds_what_it_is_told_and_nothing_else(datapath: Datapath) -> None:
    keys = NodeKeys(datapath)
    assert keys.empty
    first = dict([entry(1, KEY_RECEIVING, 5, 1), entry(1, KEY_SENDING, 5, 2)])
    assert keys.make_equal(first) == 2
    assert not keys.empty
    assert keys.make_equal(first) == 0
    second = dict([entry(1, KEY_RECEIVING, 6, 3), entry(1, KEY_SENDING, 6, 4)])
    assert keys.make_equal(second) == 3
    assert dict(datapath.open_map("node_keys").items()) == second
    assert NodeKeys(datapath).make_equal(second) == 0, "a successor finds it right"
    assert keys.make_equal({}) == 2
    assert keys.empty


def test_a_full_table_says_which_setting_to_raise_and_shows_no_key(datapath: Datapath) -> None:
    keys = NodeKeys(datapath)
    many = dict(entry(node, KEY_RECEIVING, 0, 77) for node in range(1, 16386))
    with pytest.raises(KernelError, match=r"mapSizes\.node_keys") as refused:
        keys.make_equal(many)
    assert "4d4d" not in str(refused.value)
    keys.make_equal({})
