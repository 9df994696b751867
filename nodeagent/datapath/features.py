"""What is asked of the kernel before anything is loaded: the one table of it.

To use something that Linux 5.10 lacks, add a row: how to ask for it, since when it is there, and
what is done without it. ``constant`` makes the answer a ``#define`` of 0 or 1 for the C sources. A
row with ``needed_for`` is one that nothing is done without: a kernel that lacks it is refused.
docs/kernels.md is the same table for people.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass

from meshapi.errors import HopliteError
from nodeagent.datapath.libbpf import ATTACH
from nodeagent.datapath.probe import Helper, Link, MapOperation, MapType, Probe, SocketDestroy

OLDEST = "5.10"  # the oldest kernel that the tests run on

# enum bpf_prog_type, enum bpf_map_type (uapi/linux/bpf.h)
_SCHED_CLS, _CGROUP_SKB, _CGROUP_SOCK, _SOCK_OPS, _SOCK_ADDR, _SOCKOPT = 3, 8, 9, 13, 18, 25
_HASH, _SK_STORAGE, _RING_BUFFER = 1, 24, 27


@dataclass(frozen=True)
class Feature:
    """An ability that some kernel lacks. ``without`` says what people notice then."""

    name: str
    probe: Probe
    since: str
    without: str = ""
    constant: str = ""
    needed_for: str = ""


def _link(program: int, attach: str) -> Link:
    return Link(program, ATTACH[attach])


FEATURES: tuple[Feature, ...] = (
    Feature(
        "set-retval",
        Helper(_SOCK_ADDR, 187, ATTACH["cgroup_inet4_connect"]),  # bpf_set_retval
        "5.18",
        without="a refused connect() says EPERM whatever the reason",
        constant="HAVE_SET_RETVAL",
    ),
    Feature(
        "netns-cookie",
        Helper(_SOCK_OPS, 122),  # bpf_get_netns_cookie
        "5.15",
        without="redirected connections on loopback are known by their port alone",
        constant="HAVE_NETNS_COOKIE",
    ),
    Feature(
        "take",
        MapOperation(_HASH, "take"),
        "5.14",
        without="a datagram that is counted while its exchange is recorded may be missing there",
    ),
    Feature(
        "socket-destroy",
        SocketDestroy(),
        "4.5",
        without="open connections that policy refuses now go on",
    ),
    Feature(
        "tcx",
        _link(_SCHED_CLS, "tcx_ingress"),
        "6.6",
        without="programs at interfaces are clsact filters",
    ),
    # -- what nothing is done without ----------------------------------------------------------
    Feature(
        "cgroup-links",
        _link(_SOCK_ADDR, "cgroup_inet4_connect"),
        "5.7",
        needed_for="programs that outlive the agent",
    ),
    Feature(
        "ancestor-cgroup",
        Helper(_SOCK_ADDR, 123, ATTACH["cgroup_inet4_connect"]),
        "5.7",
        needed_for="knowing whose connect() it is",
    ),
    Feature(
        "packet-cgroup",
        Helper(_CGROUP_SKB, 83),  # bpf_skb_ancestor_cgroup_id
        "5.8",
        needed_for="knowing whose packet it is",
    ),
    Feature(
        "getpeername",
        _link(_SOCK_ADDR, "cgroup_inet4_getpeername"),
        "5.8",
        needed_for="showing applications the address that they dialled",
    ),
    Feature("ring-buffer", MapType(_RING_BUFFER), "5.8", needed_for="flow records"),
    Feature(
        "socket-release",
        _link(_CGROUP_SOCK, "cgroup_inet_sock_release"),
        "5.9",
        needed_for="seeing sockets end",
    ),
    Feature(
        "socket-storage",
        MapType(_SK_STORAGE),
        "5.2",
        needed_for="the original destination of redirected connections",
    ),
    Feature(
        "getsockopt",
        _link(_SOCKOPT, "cgroup_getsockopt"),
        "5.3",
        needed_for="the original destination of redirected connections",
    ),
)


def probe(features: Iterable[Feature] = FEATURES) -> frozenset[str]:
    """Ask for all of them (a few milliseconds); the names of those that are there."""
    return frozenset(f.name for f in features if f.probe.present())


def check(present: frozenset[str], release: str = "") -> None:
    """Refuse a kernel that lacks what nothing is done without."""
    missing = [f for f in FEATURES if f.needed_for and f.name not in present]
    if not missing:
        return
    first, *more = missing
    also = f"; nor {', '.join(f'{f.name} ({f.since})' for f in more)}" if more else ""
    raise HopliteError(
        f"kernel {release or platform.release()} has no {first.name} (Linux {first.since}), "
        f"needed for {first.needed_for}{also}",
        fix=f"boot Linux {OLDEST} or newer",
    )


def describe(present: frozenset[str]) -> dict[str, str]:
    """For people: each optional feature, ``yes`` or what is missed without it."""
    return {
        f.name: "yes" if f.name in present else f"no (needs Linux {f.since}): {f.without}"
        for f in FEATURES
        if not f.needed_for
    }


def constants(present: frozenset[str]) -> list[str]:
    """The answers for the C sources."""
    return [f"#define {f.constant} {int(f.name in present)}" for f in FEATURES if f.constant]
