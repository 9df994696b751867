"""Programs at interfaces outlive the agent, follow pods' interfaces, and go when they are to go."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from pyroute2 import IPRoute

from lab import api, netns
from lab.restart import kill, start_agent
from nodeagent import netlink
from nodeagent.datapath import clsact, libbpf
from tests.mesh.asking import apply, eventually
from tests.mesh.interfaces_world import LAB, TCP, addresses, frames
from tests.mesh.test_interfaces_uplink import BLOCKED

pytestmark = pytest.mark.root

ECHO, CAGED, CLIENT = "node1/shop/echo", "node1/shop/caged", "node1/shop/client"
VETH = {"veth_from_pod", "veth_to_pod"}
UPLINK = {"uplink_ingress", "uplink_egress"}


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str], api.Lab]) -> api.Lab:
    made = make_lab(LAB)
    assert "eth0" not in programs(made), "nothing is to be looked for at uplinks yet"
    apply(made, BLOCKED)
    return made


def within_node(lab: api.Lab, work: Callable[[], Any]) -> Any:
    return netns.within(lab.node("node1").netns, work)


def programs(lab: api.Lab) -> dict[str, dict[str, int]]:
    """What is attached in node1's network, by the interface's name: program and its number."""
    links = lab.record.names.pins / "node1" / "links"

    def look() -> dict[str, dict[str, int]]:
        found = {link.name: clsact.attached(link.index) for link in netlink.links()}
        names = {link.index: link.name for link in netlink.links()}
        for path in links.glob("*@*") if links.exists() else ():
            program, _, index = path.name.partition("@")
            link = libbpf.obj_get(path)
            found[names[int(index)]][program] = libbpf.link_interface(link)[0]
            os.close(link)  # an open one would keep the program attached
        return {name: there for name, there in found.items() if there}

    found: dict[str, dict[str, int]] = within_node(lab, look)
    return found


def is_policed(lab: api.Lab) -> bool:
    """Whether a caged pod's frames reach only whom it may talk to."""
    own = addresses(lab, CAGED)[0]
    syn = f"IP(src='{own}', dst='{{}}')/TCP(sport=6, dport={TCP}, flags='S', seq=RandInt())"
    sent = ", ".join(syn.format(addresses(lab, to)[0]) for to in (ECHO, CLIENT))
    there, elsewhere = frames(lab, CAGED, f"[{sent}]")
    assert there == "SA"
    return elsewhere is None


def as_it_should_be(lab: api.Lab) -> None:
    found = programs(lab)
    assert found.keys() == {"eth0", *(f"pod{i}" for i in range(5))}
    assert found.pop("eth0").keys() == UPLINK
    assert all(there.keys() == VETH for there in found.values())
    assert is_policed(lab)


def configure(lab: api.Lab, hooks: str) -> None:
    """Start node1's agent anew with another setting."""
    path = lab.agent_socket("node1").parent.parent / "config.yaml"
    settings = {**yaml.safe_load(path.read_text()), "interfaceHooks": hooks}
    path.write_text(yaml.safe_dump(settings))
    kill(lab, "node1", "hoplite-agent")
    start_agent(lab, "node1")


def test_an_agents_death_and_return_change_nothing(lab: api.Lab) -> None:
    as_it_should_be(lab)
    before = programs(lab)
    kill(lab, "node1", "hoplite-agent")
    assert programs(lab) == before
    assert is_policed(lab)
    start_agent(lab, "node1")
    assert programs(lab) == before
    as_it_should_be(lab)


def test_interfaces_that_pods_get_and_lose_are_followed(lab: api.Lab) -> None:
    def plug() -> None:
        with IPRoute() as ip, netns.path(lab.workload(CAGED).netns).open("rb") as pod:
            peer = {"ifname": "eth1", "net_ns_fd": pod.fileno()}
            ip.link("add", ifname="late", kind="veth", peer=peer)

    def unplug() -> None:
        with IPRoute() as ip:
            ip.link("del", index=ip.link_lookup(ifname="late")[0])

    within_node(lab, plug)
    eventually(lambda: programs(lab).get("late", {}).keys() == VETH)
    within_node(lab, unplug)
    eventually(lambda: _pins(lab) == len(VETH) * 5 + len(UPLINK))
    as_it_should_be(lab)


def _pins(lab: api.Lab) -> int:
    return len(list((lab.record.names.pins / "node1" / "links").glob("*@*")))


def test_clsact_filters_do_the_same_and_outlive_the_agent_too(lab: api.Lab) -> None:
    configure(lab, "clsact")
    assert _pins(lab) == 0
    as_it_should_be(lab)
    before = programs(lab)
    kill(lab, "node1", "hoplite-agent")
    assert programs(lab) == before
    assert is_policed(lab)
    start_agent(lab, "node1")
    assert programs(lab) == before


def test_none_takes_them_away_and_auto_puts_them_back(lab: api.Lab) -> None:
    configure(lab, "none")
    assert programs(lab) == {}
    assert not is_policed(lab)
    configure(lab, "auto")
    as_it_should_be(lab)


@pytest.mark.parametrize("hooks", ["clsact", "auto"])
def test_nothing_is_left_when_the_agents_things_are_removed(lab: api.Lab, hooks: str) -> None:
    configure(lab, hooks)
    as_it_should_be(lab)
    kill(lab, "node1", "hoplite-agent")
    config = lab.agent_socket("node1").parent.parent / "config.yaml"
    command = [sys.executable, "-m", "nodeagent", "--config", str(config), "--remove"]
    within_node(lab, lambda: subprocess.run(command, check=True, timeout=60))
    assert programs(lab) == {}
    assert within_node(lab, _clsact_qdiscs) == []
    assert not (lab.record.names.pins / "node1").exists()
    assert not is_policed(lab)


def _clsact_qdiscs() -> list[str]:
    with IPRoute() as ip:
        kinds = [qdisc.get_attr("TCA_KIND") for qdisc in ip.get_qdiscs()]
    return [kind for kind in kinds if kind == "clsact"]
