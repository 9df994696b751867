from __future__ import annotations

from lab import resolv


def test_workloads_search_their_namespace_first() -> None:
    lines = resolv.text("shop").splitlines()
    assert lines == [
        "nameserver 169.254.77.1",
        "nameserver fd6d:6573:6800:ffff::1",
        "search shop.svc.hoplite.local svc.hoplite.local hoplite.local",
        "options ndots:5",
    ]


def test_a_nodes_own_processes_have_no_namespace() -> None:
    assert "search svc.hoplite.local hoplite.local\n" in resolv.text()
