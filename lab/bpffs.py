"""The BPF file system: mounted if the machine has not, unmounted when the last lab goes."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import kernel
from lab.names import STATE_ROOT
from meshapi.errors import HopliteError
from meshapi.nodecontract import BPFFS

_MARK = ".bpffs-mounted-here"
_KERNELS_OWN = {"maps.debug", "progs.debug"}  # in every bpffs of a kernel with CONFIG_BPF_PRELOAD


def ensure() -> None:
    """Have a bpffs at /sys/fs/bpf."""
    with _alone():
        if _mounted():
            return
        mark = STATE_ROOT / _MARK
        mark.touch()
        try:
            kernel.mount("bpf", Path(BPFFS))
        except OSError as error:
            mark.unlink()
            raise HopliteError(
                f"no BPF file system, and it cannot be mounted: {error.strerror}",
                where=BPFFS,
                fix="use a kernel with CONFIG_BPF_SYSCALL, in a container that may mount",
            ) from error


def release() -> None:
    """Unmount it if a lab mounted it and nothing is pinned in it any more."""
    if not STATE_ROOT.exists():
        return
    with _alone():
        mark = STATE_ROOT / _MARK
        if mark.exists() and not pinned():
            if _mounted():
                kernel.unmount(Path(BPFFS))
            mark.unlink()


def pinned() -> list[str]:
    """What has been put into the BPF file system; nothing if it is not mounted."""
    if not _mounted():
        return []
    return sorted({p.name for p in Path(BPFFS).iterdir()} - _KERNELS_OWN)


def remove_pins(directory: Path) -> None:
    """Unpin everything below a directory; what is attached by these links is detached."""
    if directory.exists():
        shutil.rmtree(directory)


def _mounted() -> bool:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split(" ")[4] == BPFFS and " - bpf " in line for line in lines)


@contextmanager
def _alone() -> Iterator[None]:
    """One lab at a time."""
    STATE_ROOT.mkdir(exist_ok=True)
    fd = os.open(STATE_ROOT, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
