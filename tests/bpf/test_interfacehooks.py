"""Programs at interfaces, as tcx links and as clsact filters, in a network namespace of our own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from pyroute2 import IPRoute

from lab import netns
from meshapi.errors import HopliteError
from nodeagent import netlink
from nodeagent.datapath import clsact, features, interfacehooks, libbpf
from nodeagent.datapath.attach import Attached, Datapath
from nodeagent.datapath.interfacehooks import InterfaceHooks
from nodeagent.layout import map_specs
from nodeagent.machine import owns_network
from tests.bpf.conftest import SIZES

pytestmark = pytest.mark.root

T = TypeVar("T")
NODE, POD = f"t{os.getpid()}-node", f"t{os.getpid()}-pod"
HAS_TCX = os.geteuid() == 0 and "tcx" in features.probe()
WAYS = ("tcx", "clsact") if HAS_TCX else ("clsact",)


@pytest.fixture
def node() -> Iterator[Callable[[Callable[[], T]], T]]:
    """Runs something in a namespace that is joined to another by ``pod0``."""
    netns.create(NODE)
    netns.create(POD)
    within(lambda: plug("pod0"))
    yield within
    netns.remove(NODE)
    netns.remove(POD)


@pytest.fixture
def attached(datapath: Datapath) -> Iterator[Attached]:
    yield datapath.load()
    links = datapath.pins / "links"
    for link in links.iterdir() if links.exists() else ():
        link.unlink()


def within(work: Callable[[], T]) -> T:
    return netns.within(NODE, work)


def plug(name: str) -> None:
    with IPRoute() as ip, netns.path(POD).open("rb") as pod:
        ip.link("add", ifname=name, kind="veth", peer={"ifname": name, "net_ns_fd": pod.fileno()})


def unplug(name: str) -> None:
    with IPRoute() as ip:
        ip.link("del", index=index(name))


def index(name: str) -> int:
    return next(link.index for link in netlink.links() if link.name == name)


def programs(datapath: Datapath, at: int) -> dict[str, int]:
    """What is attached to an interface in either way: name and program id."""
    found = dict(clsact.attached(at))
    for path in (datapath.pins / "links").glob(f"*@{at}"):
        link = libbpf.obj_get(path)
        number, there = libbpf.link_interface(link)
        os.close(link)
        assert there in (at, 0)
        if there:
            found[path.name.partition("@")[0]] = number
    return found


@pytest.mark.parametrize("how", WAYS)
def test_programs_come_and_go_with_what_is_wanted(
    how: str, datapath: Datapath, attached: Attached, node: Callable
) -> None:
    def work() -> None:
        hooks, at = InterfaceHooks(datapath, attached, how), index("pod0")
        hooks.make({at: "veth"})
        assert programs(datapath, at).keys() == {"veth_from_pod", "veth_to_pod"}
        hooks.make({at: "uplink"})
        assert programs(datapath, at).keys() == {"uplink_ingress", "uplink_egress"}
        hooks.make({})
        assert not programs(datapath, at)
        assert not (datapath.pins / "links").exists() or not list(
            (datapath.pins / "links").glob("*@*")
        )

    node(work)


@pytest.mark.parametrize("how", WAYS)
def test_a_new_version_takes_the_old_ones_place(
    how: str, datapath: Datapath, attached: Attached, node: Callable
) -> None:
    def work() -> None:
        at = index("pod0")
        InterfaceHooks(datapath, attached, how).make({at: "veth"})
        before = programs(datapath, at)
        other = Datapath(datapath.pins, map_specs({**SIZES, "fragments": 64}))
        upgraded = other.load()
        InterfaceHooks(other, upgraded, how).make({at: "veth"})
        after = programs(datapath, at)
        assert after.keys() == before.keys()
        assert not set(after.values()) & set(before.values())
        InterfaceHooks(datapath, attached, how).make({at: "veth"})
        assert programs(datapath, at) == before

    node(work)


@pytest.mark.parametrize("how", WAYS)
def test_an_interface_made_anew_is_attached_to_anew(
    how: str, datapath: Datapath, attached: Attached, node: Callable
) -> None:
    def work() -> None:
        hooks, gone = InterfaceHooks(datapath, attached, how), index("pod0")
        hooks.make({gone: "veth"})
        unplug("pod0")
        plug("pod0")
        at = index("pod0")
        assert at != gone
        hooks.make({at: "veth"})
        assert programs(datapath, at).keys() == {"veth_from_pod", "veth_to_pod"}
        assert not list((datapath.pins / "links").glob(f"*@{gone}"))

    node(work)


@pytest.mark.parametrize("how", WAYS)
def test_an_interface_that_goes_meanwhile_is_no_error(
    how: str, datapath: Datapath, attached: Attached, node: Callable
) -> None:
    def work() -> None:
        hooks, at = InterfaceHooks(datapath, attached, how), index("pod0")
        hooks.make({at: "veth", 4711: "veth"})
        assert programs(datapath, at)
        unplug("pod0")
        hooks.make({})

    node(work)


@pytest.mark.parametrize("first", WAYS)
def test_the_way_can_be_changed_and_leaves_nothing_of_the_other(
    first: str, datapath: Datapath, attached: Attached, node: Callable
) -> None:
    def work() -> None:
        at = index("pod0")
        second = next((way for way in WAYS if way != first), first)
        InterfaceHooks(datapath, attached, first).make({at: "veth"})
        InterfaceHooks(datapath, attached, second).make({at: "veth"})
        assert bool(clsact.attached(at)) == (second == "clsact")
        assert bool(list((datapath.pins / "links").glob("*@*"))) == (second == "tcx")
        interfacehooks.remove(datapath.pins)
        assert not programs(datapath, at)
        assert qdiscs(at) == []

    node(work)


def test_somebody_elses_filters_stay(
    datapath: Datapath, attached: Attached, node: Callable
) -> None:
    def work() -> None:
        at = index("pod0")
        hooks = InterfaceHooks(datapath, attached, "clsact")
        hooks.make({at: "veth"})
        theirs = libbpf.obj_get(datapath.pins / f"programs-{attached.version}" / "uplink_ingress")
        with IPRoute() as ip:
            ip.tc("add-filter", "bpf", at, fd=theirs, name="theirs", parent=0xFFFFFFF2, prio=99)
        os.close(theirs)
        hooks.make({})
        assert not clsact.attached(at)
        assert qdiscs(at) == ["clsact"]

    node(work)


def test_the_machines_own_network_is_not_the_agents(node: Callable) -> None:
    assert node(lambda: owns_network(owns_machine=False))
    assert not owns_network(owns_machine=False)
    assert owns_network(owns_machine=True)


def test_a_kernel_without_tcx_is_refused_only_if_tcx_is_asked_for(
    datapath: Datapath, attached: Attached
) -> None:
    without = replace(attached, features={**attached.features, "tcx": "no"})
    assert InterfaceHooks(datapath, without).how == "clsact"
    with pytest.raises(HopliteError, match="no tcx links"):
        InterfaceHooks(datapath, without, "tcx")


def qdiscs(at: int) -> list[str]:
    with IPRoute() as ip:
        found = [q.get_attr("TCA_KIND") for q in ip.get_qdiscs(index=at)]
    return [kind for kind in found if kind == "clsact"]


def test_pins_are_below_the_datapaths(datapath: Datapath) -> None:
    assert Path("/sys/fs/bpf") in datapath.pins.parents
