"""Which programs there are, where each attaches, and what text the loader compiles. Pure but for
reading the source files.

The version of a program set is the hash of everything that goes into it: a pinned set of the wanted
version needs no compiler.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

from nodeagent.datapath import features
from nodeagent.layout import MapSpec

_INCLUDE = re.compile(r'^#include "([^"]+)"')


@dataclass(frozen=True)
class Program:
    """A BPF program: function name, kernel program type, attach type, and what it is attached to:
    the cgroup of the node or of its proxy, pods' interfaces, the node's own, or nothing but others'
    calls.
    """

    name: str
    type: int
    attach: str
    target: Literal["node", "proxy", "veth", "uplink", "call"]


# enum bpf_prog_type (uapi/linux/bpf.h)
_SCHED_CLS, _CGROUP_SKB, _CGROUP_SOCK, _SOCK_OPS, _SOCK_ADDR, _SOCKOPT = 3, 8, 9, 13, 18, 25

PROGRAMS: tuple[Program, ...] = (
    Program("mesh_connect4", _SOCK_ADDR, "cgroup_inet4_connect", "node"),
    Program("mesh_connect6", _SOCK_ADDR, "cgroup_inet6_connect", "node"),
    Program("mesh_sendmsg4", _SOCK_ADDR, "cgroup_udp4_sendmsg", "node"),
    Program("mesh_sendmsg6", _SOCK_ADDR, "cgroup_udp6_sendmsg", "node"),
    Program("mesh_recvmsg4", _SOCK_ADDR, "cgroup_udp4_recvmsg", "node"),
    Program("mesh_recvmsg6", _SOCK_ADDR, "cgroup_udp6_recvmsg", "node"),
    Program("mesh_getpeername4", _SOCK_ADDR, "cgroup_inet4_getpeername", "node"),
    Program("mesh_getpeername6", _SOCK_ADDR, "cgroup_inet6_getpeername", "node"),
    Program("mesh_ingress", _CGROUP_SKB, "cgroup_inet_ingress", "node"),
    Program("mesh_syn", _CGROUP_SKB, "cgroup_inet_ingress", "call"),
    Program("mesh_datagram", _CGROUP_SKB, "cgroup_inet_ingress", "call"),
    Program("mesh_dns", _CGROUP_SKB, "cgroup_inet_ingress", "call"),
    Program("mesh_dns_name", _CGROUP_SKB, "cgroup_inet_ingress", "call"),
    Program("mesh_dns_records", _CGROUP_SKB, "cgroup_inet_ingress", "call"),
    Program("mesh_egress", _CGROUP_SKB, "cgroup_inet_egress", "node"),
    Program("mesh_sockops", _SOCK_OPS, "cgroup_sock_ops", "node"),
    Program("mesh_release", _CGROUP_SOCK, "cgroup_inet_sock_release", "node"),
    Program("proxy_sockops", _SOCK_OPS, "cgroup_sock_ops", "proxy"),
    Program("proxy_getsockopt", _SOCKOPT, "cgroup_getsockopt", "proxy"),
    Program("proxy_getpeername4", _SOCK_ADDR, "cgroup_inet4_getpeername", "proxy"),
    Program("proxy_getpeername6", _SOCK_ADDR, "cgroup_inet6_getpeername", "proxy"),
    Program("mesh_bind4", _CGROUP_SOCK, "cgroup_inet4_post_bind", "node"),
    Program("mesh_bind6", _CGROUP_SOCK, "cgroup_inet6_post_bind", "node"),
    Program("veth_from_pod", _SCHED_CLS, "tcx_ingress", "veth"),
    Program("veth_to_pod", _SCHED_CLS, "tcx_egress", "veth"),
    Program("uplink_ingress", _SCHED_CLS, "tcx_ingress", "uplink"),
    Program("uplink_egress", _SCHED_CLS, "tcx_egress", "uplink"),
)


def source_folder() -> Path:
    """Where the C sources are: bpf/ of the checkout or of the installed package."""
    return Path(str(files("bpf")))


def compile_text(
    folder: Path, specs: tuple[MapSpec, ...], pins: Path, present: frozenset[str]
) -> str:
    """The whole datapath as one text: BCC rewrites map calls in the main file only."""
    lines = features.constants(present)
    for spec in specs:
        lines.append(f"#define SIZE_{spec.name} {spec.entries}")
        lines.append(f'#define PIN_{spec.name} "{pins / spec.pin}"')
    lines.append(_paste(folder, "mesh.c"))
    return "\n".join(lines)


def version(text: str) -> str:
    """What names a program set: the hash of its whole text, maps and features included."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _paste(folder: Path, name: str) -> str:
    lines = [f'#line 1 "{name}"']
    for number, line in enumerate((folder / name).read_text().splitlines(), 1):
        match = _INCLUDE.match(line)
        if match:
            lines += [_paste(folder, match[1]), f'#line {number + 1} "{name}"']
        else:
            lines.append(line)
    return "\n".join(lines)
