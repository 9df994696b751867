from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import netns

pytestmark = pytest.mark.root


@pytest.fixture
def name() -> Iterator[str]:
    name = f"hl-test{os.getpid()}.x"
    netns.create(name)
    yield name
    netns.remove(name)


def here() -> str:
    return str(Path("/proc/thread-self/ns/net").readlink())


def test_work_is_done_inside_and_the_caller_stays_outside(name: str) -> None:
    outside = here()
    inside = netns.within(name, here)
    assert inside != outside
    assert here() == outside
    assert name in netns.names()


def test_a_new_namespace_holds_nothing_of_the_machines(name: str) -> None:
    devices = netns.within(name, lambda: Path("/proc/thread-self/net/dev").read_text())
    assert "eth0" not in devices


def test_an_error_inside_is_raised_outside(name: str) -> None:
    def fail() -> None:
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        netns.within(name, fail)


def test_the_same_name_twice_is_refused_and_the_first_stays(name: str) -> None:
    with pytest.raises(FileExistsError):
        netns.create(name)
    assert netns.within(name, here)


def test_a_half_made_namespace_is_removed_too() -> None:
    name = f"hl-test{os.getpid()}.half"
    netns.path(name).parent.mkdir(exist_ok=True)
    netns.path(name).touch()
    netns.remove(name)
    assert name not in netns.names()
    netns.remove(name)  # again: nothing to do


def test_entering_what_does_not_exist_fails() -> None:
    with pytest.raises(FileNotFoundError):
        netns.within("hl-absent.x", here)


@pytest.mark.root
def test_ip_netns_of_somebody_else_hides_nothing() -> None:
    """The first ``ip netns add`` after boot would mount /run/netns over what lies there."""
    script = """
import subprocess
from pathlib import Path
from lab import kernel, netns
from lab.names import NETNS_ROOT
kernel.mount("tmpfs", NETNS_ROOT.parent)  # as after a boot, in this mount namespace only
netns.create("hl-hidden")
subprocess.run(["ip", "netns", "add", "somebody"], check=True)
subprocess.run(["ip", "netns", "delete", "somebody"], check=True)
netns.remove("hl-hidden")
assert netns.names() == []
"""
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
