"""Finding the host's ends of pods' interfaces, with real namespaces, processes and cgroups."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from lab import cgroups, netns
from lab.processes import launcher, place_in
from meshapi.resources import ObjectMeta, Workload, WorkloadSpec
from nodeagent.desired.units import Interfaces
from nodeagent.interfaces import InterfaceFinder

pytestmark = pytest.mark.root

ME = f"t{os.getpid()}"
NODE, INNER = f"{ME}-node", f"{ME}-inner"
PODS = ("a", "b")


@pytest.fixture
def root() -> Iterator[Path]:
    """A cgroup root, and namespaces of a node with pods ``a`` and ``b`` and one behind ``a``."""
    path = cgroups.mount_point() / f"hoplite-test-{ME}"
    for name in (NODE, INNER, *(f"{ME}-{pod}" for pod in PODS)):
        netns.create(name)
    for pod in PODS:
        cgroups.make(path / pod)
        netns.within(NODE, lambda pod=pod: plug(f"to-{pod}", f"{ME}-{pod}"))
    netns.within(f"{ME}-a", lambda: plug("inner", INNER))
    yield path
    cgroups.kill(path)
    cgroups.remove(path)
    for name in (NODE, INNER, *(f"{ME}-{pod}" for pod in PODS)):
        netns.remove(name)


def plug(name: str, peer: str) -> None:
    with IPRoute() as ip, netns.path(peer).open("rb") as target:
        ip.link(
            "add", ifname=name, kind="veth", peer={"ifname": "eth0", "net_ns_fd": target.fileno()}
        )
        ip.addr("add", index=ip.link_lookup(ifname=name)[0], address="192.0.2.1", prefixlen=32)


def index(name: str) -> int:
    def look() -> int:
        with IPRoute() as ip:
            found: int = ip.link_lookup(ifname=name)[0]
            return found

    return netns.within(NODE, look)


def workload(pod: str, network: str = "pod") -> Workload:
    return Workload(
        api_version="mesh.hoplite.io/v1alpha1",
        kind="Workload",
        metadata=ObjectMeta(name=pod, namespace="shop"),
        spec=WorkloadSpec(node_name="n1", cgroup=pod, network=network),  # type: ignore[arg-type]
    )


class Node:
    """One node's finder, which lives in the node's namespace."""

    def __init__(self, root: Path, *uplinks: str) -> None:
        self._root = root
        self._finder = netns.within(NODE, lambda: InterfaceFinder(root, uplinks))

    def find(self, *workloads: Workload) -> Interfaces:
        known = {
            ("shop", w.metadata.name): ((self._root / w.spec.cgroup).stat().st_ino, 2)
            for w in workloads
        }
        return netns.within(NODE, lambda: self._finder.find(workloads, known))


@contextmanager
def process(root: Path, pod: str, namespace: str) -> Iterator[None]:
    running = subprocess.Popen(launcher(place_in(root / pod, namespace), ["sleep", "60"]))
    try:
        while "sleep" not in Path(f"/proc/{running.pid}/comm").read_text():
            time.sleep(0.01)
        yield
    finally:
        running.kill()
        running.wait()


def owners(found: Interfaces) -> dict[int, tuple[str, ...]]:
    return {i: tuple(name for _, name in end.workloads) for i, end in found.ends.items()}


def test_a_pods_processes_lead_to_its_interface(root: Path) -> None:
    node = Node(root)
    pods = [workload(pod) for pod in PODS]
    assert owners(node.find(*pods)) == {}
    with process(root, "a", f"{ME}-a"), process(root, "b", f"{ME}-b"):
        found = node.find(*pods)
        assert owners(found) == {index("to-a"): ("a",), index("to-b"): ("b",)}
        assert len({end.netns for end in found.ends.values()}) == 2
        assert not found.unguarded


def test_an_interface_stays_a_pods_while_it_has_no_process(root: Path) -> None:
    node = Node(root)
    with process(root, "a", f"{ME}-a"):
        found = node.find(workload("a"))
    pods = workload("a"), workload("b")
    with process(root, "b", f"{ME}-b"):
        assert owners(node.find(*pods)) == {index("to-a"): ("a",), index("to-b"): ("b",)}
    assert node.find(*pods).ends[index("to-a")] == found.ends[index("to-a")]
    assert owners(node.find(workload("b"))) == {index("to-b"): ("b",)}, "a is gone"
    assert owners(node.find(*pods)) == {index("to-b"): ("b",)}


def test_an_interface_made_anew_is_found_anew(root: Path) -> None:
    node = Node(root)
    with process(root, "a", f"{ME}-a"):
        assert owners(node.find(workload("a"))) == {index("to-a"): ("a",)}
        before = index("to-a")

        def renew() -> None:
            with IPRoute() as ip:
                ip.link("del", index=before)
            plug("to-a", f"{ME}-a")

        netns.within(NODE, renew)
        assert owners(node.find(workload("a"))) == {index("to-a"): ("a",)}
        assert index("to-a") != before


def test_what_is_behind_a_pod_is_not_the_nodes(root: Path) -> None:
    node = Node(root)
    with process(root, "a", f"{ME}-a"), process(root, "a", INNER):
        assert owners(node.find(workload("a"))) == {index("to-a"): ("a",)}


def test_a_pod_without_an_interface_of_its_own_is_named(root: Path) -> None:
    node = Node(root)
    with process(root, "a", INNER):
        found = node.find(workload("a"))
        assert (found.ends, found.unguarded) == ({}, {("shop", "a")})
        with process(root, "a", f"{ME}-a"):
            assert not node.find(workload("a")).unguarded


def test_workloads_of_the_host_network_and_of_the_nodes_own_have_none(root: Path) -> None:
    node = Node(root)
    with process(root, "a", f"{ME}-a"), process(root, "b", NODE):
        found = node.find(workload("a", "host"), workload("b"))
        assert (found.ends, found.unguarded) == ({}, frozenset())


def test_two_workloads_in_one_namespace_share_its_interface(root: Path) -> None:
    node = Node(root)
    with process(root, "b", f"{ME}-a"):
        assert owners(node.find(workload("b"))) == {index("to-a"): ("b",)}
        with process(root, "a", f"{ME}-a"):
            pods = workload("a"), workload("b")
            assert owners(node.find(*pods)) == {index("to-a"): ("b", "a")}


def test_no_interface_is_an_uplink_that_is_not_named(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert Node(root, "to-b").find().uplinks == {index("to-b")}
    assert Node(root).find().uplinks == set()
    assert not caplog.records
    assert Node(root, "absent").find().uplinks == set()
    assert [record.uplinks for record in caplog.records] == [["absent"]]  # type: ignore[attr-defined]
    named = Node(root, "to-a", "to-b")
    with process(root, "a", f"{ME}-a"):
        assert named.find(workload("a")).uplinks == {index("to-b")}, "a pod's is none"
