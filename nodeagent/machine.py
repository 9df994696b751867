"""What the agent needs of its machine, checked before anything is touched; one line each."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from meshapi.errors import HopliteError

_CGROUP2_MAGIC = 0x63677270  # statfs(2) f_type, uapi/linux/magic.h
_BPF_MAGIC = 0xCAFE4A11


def check(cgroup_root: Path, pins: Path, *, owns_machine: bool) -> None:
    """Refuse a machine or setting on which the agent could not, or should not, do its work."""
    if os.geteuid() != 0:
        raise HopliteError(
            "the agent loads eBPF and so needs root", fix="run it with sudo or as a service"
        )
    if not cgroup_root.is_dir():
        raise HopliteError(
            "no such cgroup", where=str(cgroup_root), fix="create it or correct cgroupRoot"
        )
    if _filesystem(cgroup_root) != _CGROUP2_MAGIC:
        raise HopliteError(
            "not in a cgroup v2 hierarchy",
            where=str(cgroup_root),
            fix="mount cgroup2 (systemd.unified_cgroup_hierarchy=1) and set cgroupRoot below it",
        )
    if cgroup_level(cgroup_root) == 0 and not owns_machine:
        raise HopliteError(
            "this is the root cgroup: every connection of this machine would be captured",
            where=str(cgroup_root),
            fix="set iOwnThisMachine: true if that is meant, otherwise use a child cgroup",
        )
    mount = next((p for p in (pins, *pins.parents) if p.is_dir()), Path("/"))
    if _filesystem(mount) != _BPF_MAGIC:
        raise HopliteError(
            "not on a bpffs", where=str(pins), fix="mount -t bpf bpf /sys/fs/bpf, then start again"
        )


def cgroup_level(cgroup: Path) -> int:
    """How deep a cgroup lies below the root of its hierarchy (the root is 0)."""
    level = 0
    device = cgroup.stat().st_dev
    current = cgroup.resolve()
    while current.parent != current and current.parent.stat().st_dev == device:
        if not (current / "cgroup.type").exists() and not (current / "cgroup.events").exists():
            break  # only the root of the hierarchy lacks both
        level += 1
        current = current.parent
    return level


def owns_network(*, owns_machine: bool) -> bool:
    """Whether the agent may touch interfaces: not the machine's own, unless that is meant.

    The machine's own network namespace is the one that shows settings of the whole kernel.
    """
    return owns_machine or not Path("/proc/sys/net/core/netdev_max_backlog").exists()


def netns_cookie() -> int:
    """The cookie of the calling process's network namespace (SO_NETNS_COOKIE, Linux 5.14)."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            return int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, 71, 8), "little")
        except OSError:
            return 0


def _filesystem(path: Path) -> int:
    """f_type of statfs(2), which Python's os.statvfs leaves out."""
    library = ctypes.CDLL(None, use_errno=True)
    answer = ctypes.create_string_buffer(256)
    if library.statfs(str(path).encode(), answer) < 0:
        number = ctypes.get_errno()
        raise HopliteError(f"cannot look at it: {os.strerror(number)}", where=str(path))
    return int.from_bytes(answer.raw[:8], "little") & 0xFFFFFFFF
