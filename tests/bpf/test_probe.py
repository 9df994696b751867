"""Questions to the kernel whose answers are known, on every kernel from 5.10 on."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeagent.datapath.probe import (
    Helper,
    Instructions,
    Link,
    MapOperation,
    MapType,
    Probe,
    SocketDestroy,
)
from tests.kernels.survey import questions

pytestmark = pytest.mark.root

CGROUP_SKB, SOCK_ADDR, CONNECT4 = 8, 18, 10
HASH, ARRAY, LPM_TRIE = 1, 2, 11


@pytest.mark.parametrize(
    ("probe", "expected"),
    [
        (Helper(CGROUP_SKB, 1), True),  # bpf_map_lookup_elem, with wrong arguments
        (Helper(CGROUP_SKB, 7), True),  # bpf_get_prandom_u32, with nothing to refuse
        (Helper(CGROUP_SKB, 23), False),  # bpf_redirect, which is for tc alone
        (Helper(CGROUP_SKB, 99999), False),
        (Helper(SOCK_ADDR, 64, CONNECT4), True),  # bpf_bind, for connect alone
        (Helper(SOCK_ADDR, 64, 14), False),  # at sendmsg
        (MapType(HASH), True),
        (MapType(9999), False),
        (Link(SOCK_ADDR, CONNECT4), True),
        (Link(SOCK_ADDR, 0), False),  # ingress is not for this type of program
        (Link(SOCK_ADDR, 9999), False),
        (MapOperation(HASH, "walk"), True),
        (MapOperation(LPM_TRIE, "walk"), True),
        (MapOperation(HASH, "batch"), True),
        (MapOperation(ARRAY, "take"), False),
        (MapOperation(9999, "walk"), False),
        (Instructions(CGROUP_SKB, ((0xB7, 0, 0, 1), (0x95, 0, 0, 0))), True),
        (Instructions(CGROUP_SKB, ((0x95, 0, 0, 0),)), False),  # returns what was never set
        (SocketDestroy(), True),
    ],
    ids=repr,
)
def test_the_kernel_answers(probe: Probe, expected: bool) -> None:
    assert probe.present() is expected


def test_asking_leaves_nothing_open() -> None:
    before = sorted(Path("/proc/self/fd").iterdir())
    for probe in questions().values():
        probe.present()
    assert sorted(Path("/proc/self/fd").iterdir()) == before
