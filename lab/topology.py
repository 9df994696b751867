"""The lab's network: a bridge joins the nodes, a veth joins each pod to its node.

Nothing is added to the machine's own network namespace. Neighbours are static and duplicate
address detection is off, so that every address works at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import Any

from pyroute2 import IPRoute, NetlinkError

from lab import netns
from lab.plan import FABRIC4, FABRIC6, Plan, PlannedNode, PlannedWorkload
from meshapi.errors import HopliteError

GATEWAY4 = "169.254.1.1"  # what a pod sends to; no device has it, the neighbour entry suffices
GATEWAY6 = "fe80::1"

_NODE_MAC = "ee:ee:ee:ee:ee:ee"  # the node's end of every pod's veth
_SCOPE_LINK = 253
_NO_DAD = 0x02  # IFA_F_NODAD
_PERMANENT = 0x80  # NUD_PERMANENT
_LOOPBACK = 1  # the index of lo in every namespace

_SYSCTLS = {
    "ipv6/conf/all/accept_dad": "0",
    "ipv6/conf/default/accept_dad": "0",
    "ipv6/conf/all/accept_ra": "0",
    "ipv6/conf/default/accept_ra": "0",
}
_NODE_SYSCTLS = {
    "ipv4/ip_forward": "1",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    "ipv6/conf/all/forwarding": "1",
}


def build(plan: Plan) -> None:
    """Make every namespace of the lab and join them."""
    try:
        _build(plan)
    except (NetlinkError, OSError) as error:
        raise HopliteError(
            f"the lab's network cannot be made: {error}",
            fix="it needs network namespaces, veth and bridge; run: modprobe -a veth bridge",
        ) from error


def _build(plan: Plan) -> None:
    _new(plan.fabric, {})
    netns.within(plan.fabric, _bridge)
    for number, node in enumerate(plan.nodes, start=1):
        _new(node.netns, _NODE_SYSCTLS)
        netns.within(plan.fabric, partial(_plug_node, number, node.netns))
        for pod in node.pods:
            _new(pod.netns, {})
        netns.within(node.netns, partial(_node_side, plan, node))
        for pod in node.pods:
            netns.within(pod.netns, partial(_pod_side, pod))


def pod_mac(number: int) -> str:
    """The address of a pod's own end; it has to be unique on its veth alone."""
    return f"02:00:00:00:{number >> 8:02x}:{number & 0xFF:02x}"


def _new(name: str, sysctls: dict[str, str]) -> None:
    netns.create(name)
    netns.within(name, partial(_start, sysctls))


def _start(sysctls: dict[str, str]) -> None:
    for key, value in {**_SYSCTLS, **sysctls}.items():
        Path("/proc/sys/net", key).write_text(value)
    with IPRoute() as ip:
        ip.link("set", index=_LOOPBACK, state="up")


def _bridge() -> None:
    with IPRoute() as ip:
        ip.link("add", ifname="br0", kind="bridge", br_mcast_snooping=0)
        index = _index(ip, "br0")
        ip.link("set", index=index, state="up")
        _address(ip, index, FABRIC4, 24)
        _address(ip, index, FABRIC6, 64)


def _plug_node(number: int, node: str) -> None:
    with IPRoute() as ip, _opened(node) as target:
        port = f"node{number}"
        ip.link("add", ifname=port, kind="veth", peer={"ifname": "eth0", "net_ns_fd": target})
        ip.link("set", index=_index(ip, port), master=_index(ip, "br0"), state="up")


def _node_side(plan: Plan, node: PlannedNode) -> None:
    with IPRoute() as ip:
        fabric = _index(ip, "eth0")
        ip.link("set", index=fabric, state="up")
        _address(ip, fabric, node.address4, 24)
        _address(ip, fabric, node.address6, 64)
        for other in plan.nodes:
            if other is not node:
                ip.route("add", dst=other.pods4, gateway=other.address4, oif=fabric)
                ip.route(
                    "add", family=AF_INET6, dst=other.pods6, gateway=other.address6, oif=fabric
                )
        for number, pod in enumerate(node.pods):
            _plug_pod(ip, pod, number)


def _plug_pod(ip: Any, pod: PlannedWorkload, number: int) -> None:
    port, mac = f"pod{number}", pod_mac(number)
    with _opened(pod.netns) as target:
        ip.link(
            "add",
            ifname=port,
            kind="veth",
            address=_NODE_MAC,
            peer={"ifname": "eth0", "net_ns_fd": target, "address": mac},
        )
    index = _index(ip, port)
    ip.link("set", index=index, state="up")
    ip.route("add", dst=f"{pod.address4}/32", oif=index, scope=_SCOPE_LINK)
    ip.route("add", family=AF_INET6, dst=f"{pod.address6}/128", oif=index)
    _neighbour(ip, AF_INET, index, pod.address4, mac)
    _neighbour(ip, AF_INET6, index, pod.address6, mac)


def _pod_side(pod: PlannedWorkload) -> None:
    with IPRoute() as ip:
        index = _index(ip, "eth0")
        ip.link("set", index=index, state="up")
        _address(ip, index, pod.address4, 32)
        _address(ip, index, pod.address6, 128)
        _neighbour(ip, AF_INET, index, GATEWAY4, _NODE_MAC)
        _neighbour(ip, AF_INET6, index, GATEWAY6, _NODE_MAC)
        ip.route("add", dst=f"{GATEWAY4}/32", oif=index, scope=_SCOPE_LINK)
        ip.route("add", dst="default", gateway=GATEWAY4, oif=index)
        ip.route("add", family=AF_INET6, dst="default", gateway=GATEWAY6, oif=index)


def _index(ip: Any, name: str) -> int:
    indexes: list[int] = ip.link_lookup(ifname=name)
    return indexes[0]


def _address(ip: Any, index: int, address: str, prefix: int) -> None:
    flags = {"flags": _NO_DAD} if ":" in address else {}
    ip.addr("add", index=index, address=address, prefixlen=prefix, **flags)


def _neighbour(ip: Any, family: int, index: int, address: str, mac: str) -> None:
    ip.neigh("replace", family=family, ifindex=index, dst=address, lladdr=mac, state=_PERMANENT)


@contextmanager
def _opened(name: str) -> Iterator[int]:
    with netns.path(name).open("rb") as file:
        yield file.fileno()
