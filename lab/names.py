"""What a lab's parts are called, so that every part is recognised by its name alone. Pure.

A lab's name holds no dot, so ``hl-<lab>.`` is no prefix of another lab's namespaces.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from meshapi.errors import HopliteError
from meshapi.nodecontract import BPFFS

STATE_ROOT = Path("/run/hoplite-lab")
NETNS_ROOT = Path("/run/netns")
DEFAULT_NAME = "lab"
NODE_NAME_LENGTH = 30
RESERVED_NODES = ("controller", "fabric")  # their cgroup and namespace stand beside the nodes'

_NAME_LENGTH = (
    24  # with a node's of 30, the longest socket path fits the 107 characters of a sun_path
)
_NAME = re.compile(r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
_CGROUP_PREFIX = "hoplite-lab-"
_NETNS = re.compile(r"^hl-(?P<lab>[a-z0-9-]+)\.")


def check_name(name: str) -> str:
    """Refuse a name that could not be a directory, a cgroup and a namespace at once."""
    if len(name) <= _NAME_LENGTH and _NAME.match(name):
        return name
    raise HopliteError(
        f"{name!r} is not a lab's name",
        where="--name",
        fix=f"use lower-case letters, digits and '-', at most {_NAME_LENGTH}",
    )


@dataclass(frozen=True)
class LabNames:
    """Every path and namespace of one lab."""

    name: str

    @property
    def state(self) -> Path:
        return STATE_ROOT / self.name

    @property
    def record(self) -> Path:
        return self.state / "lab.json"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def controller(self) -> Path:
        return self.state / "controller"

    def node(self, node: str) -> Path:
        return self.state / "nodes" / node

    def home(self, target: str) -> Path:
        """The scratch directory, HOME and first working directory, of ``<node>[/<workload>]``."""
        return self.state / "home" / target.replace("/", ".")

    def resolv_conf(self, namespace: str = "") -> Path:
        """What workloads of a namespace have as /etc/resolv.conf or, without one, a node's own."""
        return self.state / "resolv" / (namespace or "-")  # no namespace is called so

    @property
    def pins(self) -> Path:
        return Path(BPFFS) / f"{_CGROUP_PREFIX}{self.name}"

    def cgroup(self, mount: Path) -> Path:
        return mount / f"{_CGROUP_PREFIX}{self.name}"

    def netns(self, *parts: str) -> str:
        """``hl-<lab>.fabric``, ``hl-<lab>.<node>`` or ``hl-<lab>.<node>.<namespace>.<name>``."""
        return ".".join((f"hl-{self.name}", *parts))

    def log(self, process: str) -> Path:
        """The log of ``controller``, ``<node>/agent`` or ``<node>/<namespace>/<name>``."""
        return self.logs / f"{process.replace('/', '.')}.log"


def lab_of_cgroup(directory: str) -> str | None:
    """The lab that a directory below the cgroup mount (or bpffs) belongs to."""
    if not directory.startswith(_CGROUP_PREFIX):
        return None
    return directory.removeprefix(_CGROUP_PREFIX)


def lab_of_netns(netns: str) -> str | None:
    """The lab that a network namespace belongs to."""
    match = _NETNS.match(netns)
    return match["lab"] if match else None
