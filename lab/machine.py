"""What a machine needs for a lab, checked before anything is made; each lack is one line."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lab import cgroups
from lab.enter import RESOLV_CONF
from lab.plan import Plan
from lab.processes import PATH
from meshapi.errors import HopliteError

_KERNEL_NEEDS = {
    "/proc/self/ns/net": "network namespaces",
    "/proc/sys/net/ipv6": "IPv6",  # for services and pods; the machine need not have an address
}


def require_root(verb: str) -> None:
    if os.geteuid() != 0:
        raise HopliteError(
            f"hoplite-lab {verb} needs root, for namespaces, cgroups and eBPF", fix="use sudo"
        )


def check(plan: Plan) -> Path:
    """Refuse a machine that cannot run ``plan``; returns where cgroup v2 is mounted."""
    require_root("up")
    for path, what in _KERNEL_NEEDS.items():
        if not Path(path).exists():
            raise HopliteError(f"the kernel has no {what}", where=path, fix="enable it and reboot")
    mount = cgroups.mount_point()
    if not os.access(mount, os.W_OK):
        raise HopliteError(
            "cgroup v2 is mounted read-only",
            where=str(mount),
            fix="run on the machine itself, or in a container that may write there",
        )
    if not Path(RESOLV_CONF).exists():
        raise HopliteError(
            "not there, so workloads cannot be given one of their own",
            where=RESOLV_CONF,
            fix=f"make it: touch {RESOLV_CONF}",
        )
    for workload in plan.workloads:
        if workload.command:
            _check_program(workload.target, workload.command[0], workload.env.get("PATH", PATH))
    return mount


def _check_program(target: str, program: str, path: str) -> None:
    if "/" in program and not program.startswith("/"):
        raise HopliteError(
            f"program {program!r} is a relative path",
            where=target,
            fix="write its absolute path, or its name alone",
        )
    if not shutil.which(program, path=path):
        raise HopliteError(
            f"program {program!r} is not on this machine",
            where=target,
            fix="install it, or correct the command",
        )
