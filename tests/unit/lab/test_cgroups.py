from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import cgroups
from meshapi.errors import HopliteError

HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
"""


@pytest.fixture
def group() -> Iterator[Path]:
    path = cgroups.mount_point() / f"hoplite-lab-test{os.getpid()}"
    cgroups.make(path / "inner" / "deep")
    yield path
    cgroups.kill(path)
    cgroups.remove(path)


def sleeper(group: Path, command: str = "sleep 60") -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sh", "-c", f"echo 0 > {group}/cgroup.procs; exec {command}"])


def wait_for(group: Path, count: int) -> None:
    deadline = time.monotonic() + 5
    while len(cgroups.pids(group)) != count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_mount_is_found_beside_version_1() -> None:
    assert cgroups.find_mount(HYBRID) == Path("/sys/fs/cgroup/unified")


def test_no_version_2_is_refused() -> None:
    with pytest.raises(HopliteError, match="cgroup v2 is not mounted"):
        cgroups.find_mount("\n".join(HYBRID.splitlines()[:2]))


@pytest.mark.root
def test_processes_of_a_subtree_are_seen_killed_and_the_subtree_removed(group: Path) -> None:
    child = sleeper(group / "inner" / "deep")
    wait_for(group, 1)
    assert cgroups.pids(group) == [child.pid]
    cgroups.kill(group)
    assert child.wait() == -9
    cgroups.remove(group)
    assert not group.exists()


@pytest.mark.root
def test_kernels_without_cgroup_kill(group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = sleeper(group / "inner")
    wait_for(group, 1)
    write = Path.write_text

    def refuse(self: Path, text: str) -> int:
        if self.name == "cgroup.kill":
            raise FileNotFoundError(2, "as on 5.10")
        return write(self, text)

    monkeypatch.setattr(Path, "write_text", refuse)
    cgroups.kill(group)
    assert child.wait() == -9


@pytest.mark.root
def test_terminate_asks_first_and_waits_no_longer_than_the_grace(group: Path) -> None:
    polite = sleeper(group)
    stubborn = sleeper(group / "inner", "sh -c 'trap \"\" TERM; while :; do sleep 0.05; done'")
    wait_for(group, 3)
    time.sleep(0.1)  # until the trap is set
    began = time.monotonic()
    cgroups.terminate(group, 0.3)
    assert 0.2 < time.monotonic() - began < 3
    assert polite.wait() == -15
    assert stubborn.poll() is None
    cgroups.kill(group)
    stubborn.wait()


@pytest.mark.root
def test_what_is_not_there_has_no_processes_and_is_removed_already() -> None:
    absent = cgroups.mount_point() / "hoplite-lab-absent"
    assert cgroups.pids(absent) == []
    cgroups.terminate(absent, 1)
    cgroups.kill(absent)
    cgroups.remove(absent)


@pytest.mark.root
def test_a_group_in_use_cannot_be_removed_and_says_so(group: Path) -> None:
    child = sleeper(group)
    wait_for(group, 1)
    with pytest.raises(HopliteError, match="cannot be removed: Device or resource busy"):
        cgroups.remove(group, patience=0.1)
    child.kill()
    child.wait()
