"""Removing a lab, whole or half-made, by its name alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress

from lab import bpffs, cgroups, netns, record, traces
from lab.names import NETNS_ROOT, STATE_ROOT, LabNames, lab_of_netns
from meshapi.errors import HopliteError

GRACE = 3.0  # seconds that processes have to end by themselves


def remove(lab: str, *, grace: float = GRACE) -> None:
    """Remove every trace of a lab. What resists is named, and does not keep the rest."""
    names = LabNames(lab)
    cgroup = names.cgroup(cgroups.mount_point())
    steps: list[Callable[[], None]] = [
        lambda: cgroups.terminate(cgroup, grace),
        lambda: cgroups.kill(cgroup),
        lambda: bpffs.remove_pins(names.pins),
        lambda: _remove_namespaces(lab),
        lambda: cgroups.remove(cgroup),
        lambda: shutil.rmtree(names.state) if names.state.exists() else None,
        bpffs.release,
        _remove_roots,
    ]
    errors = []
    for step in steps:
        try:
            step()
        except (HopliteError, OSError) as error:
            errors.append(str(error))
    left = traces.of(lab)
    if left or errors:
        raise HopliteError(
            f"lab {lab!r} could not be removed whole: {'; '.join([*errors, *left])}",
            fix=f"see to that and run: hoplite-lab down --name {lab}",
        )


def _remove_namespaces(lab: str) -> None:
    for name in netns.names():
        if lab_of_netns(name) == lab:
            netns.remove(name)


def _remove_roots() -> None:
    """Remove the directories that labs share, if this was the last one."""
    if record.labs():
        return
    for directory in (STATE_ROOT, NETNS_ROOT):
        with suppress(OSError):  # not there, in use by others, or a mount that iproute2 made
            directory.rmdir()
