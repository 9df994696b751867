"""What of a lab is on this machine, recognised by name alone: for ``down`` and for its test."""

from __future__ import annotations

from pathlib import Path

from lab import bpffs, cgroups, netns, record
from lab.names import LabNames, lab_of_cgroup, lab_of_netns


def of(lab: str) -> list[str]:
    """Every trace of one lab, a phrase each."""
    names = LabNames(lab)
    cgroup = names.cgroup(cgroups.mount_point())
    found = [f"network namespace {n}" for n in netns.names() if lab_of_netns(n) == lab]
    found += [f"mount {target}" for target in _netns_mounts() if lab_of_netns(target.name) == lab]
    found += [f"process {pid}" for pid in cgroups.pids(cgroup)]
    found += [f"cgroup {group}" for group in cgroups.subtree(cgroup)]
    found += [f"{path}" for path in (names.pins, names.state) if path.exists()]
    return found


def labs() -> list[str]:
    """Every lab of which there is any trace."""
    found = set(record.labs())
    found |= {lab for n in netns.names() if (lab := lab_of_netns(n))}
    found |= {lab for pin in bpffs.pinned() if (lab := lab_of_cgroup(pin))}
    groups = cgroups.mount_point().iterdir()
    found |= {lab for group in groups if (lab := lab_of_cgroup(group.name))}
    return sorted(found)


def _netns_mounts() -> list[Path]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    targets = [Path(line.split(" ")[4]) for line in lines]
    return [target for target in targets if target.parent.name == "netns"]
