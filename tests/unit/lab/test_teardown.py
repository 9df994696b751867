"""``down`` removes whatever there is of a lab, also what a killed ``up`` left half-made."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from lab import api, bpffs, cgroups, netns, record, teardown, traces
from lab.names import STATE_ROOT, LabNames
from meshapi.errors import ConflictError, HopliteError

pytestmark = pytest.mark.root


def lab_name() -> str:
    return f"unit{os.getpid()}-t"


def test_a_whole_lab_with_running_processes(two_nodes: api.Lab) -> None:
    polite = two_nodes.popen("node1/shop/web", ["sleep", "60"])
    stubborn = two_nodes.popen("node2/shop/web", ["sh", "-c", "trap '' TERM; sleep 60; sleep 60"])
    time.sleep(0.2)
    names = two_nodes.record.names
    (names.pins / "node1").mkdir(parents=True)
    assert any(trace.startswith("process ") for trace in traces.of(two_nodes.name))
    assert two_nodes.name in traces.labs()
    began = time.monotonic()
    teardown.remove(two_nodes.name, grace=0.5)
    assert time.monotonic() - began < 5
    assert traces.of(two_nodes.name) == []
    assert two_nodes.name not in traces.labs()
    assert polite.wait() == -15
    assert stubborn.wait() == -9


def only_a_cgroup(names: LabNames) -> None:
    cgroups.make(names.cgroup(cgroups.mount_point()) / "node1" / "pods" / "x_y")


def only_a_namespace(names: LabNames) -> None:
    netns.create(names.netns("node1", "shop", "web"))


def only_the_file_of_a_namespace(names: LabNames) -> None:
    netns.NETNS_ROOT.mkdir(exist_ok=True)
    netns.path(names.netns("node1")).touch()


def only_pins(names: LabNames) -> None:
    with record.claimed(names.name):
        bpffs.ensure()
    names.state.rmdir()
    (names.pins / "node1").mkdir(parents=True)


def only_a_broken_record(names: LabNames) -> None:
    names.logs.mkdir(parents=True)
    names.record.write_text("{")


@pytest.mark.parametrize(
    "begin",
    [
        only_a_cgroup,
        only_a_namespace,
        only_the_file_of_a_namespace,
        only_pins,
        only_a_broken_record,
    ],
)
def test_a_half_made_lab(begin: Callable[[LabNames], None]) -> None:
    name = lab_name()
    begin(LabNames(name))
    assert traces.of(name)
    assert name in traces.labs()
    assert api.stop(name) is True
    assert traces.of(name) == []
    assert api.stop(name) is False


def test_the_neighbour_is_left_alone(two_nodes: api.Lab) -> None:
    name = two_nodes.name.removesuffix("-0")  # a name that the other begins with
    netns.create(LabNames(name).netns("node1"))
    assert api.stop(name) is True
    assert two_nodes.exec("node1/shop/web", ["true"]).returncode == 0


def test_up_of_a_lab_of_which_there_is_a_trace_is_refused(two_nodes: api.Lab) -> None:
    text = "{apiVersion: lab.hoplite.io/v1alpha1, kind: Lab, spec: {nodes: [{name: n}]}}"
    with pytest.raises(ConflictError, match=r"is there already .* run: hoplite-lab down"):
        api.start(text, name=two_nodes.name)
    assert two_nodes.exec("node1/shop/web", ["true"]).returncode == 0


def test_down_while_another_process_holds_the_lab(two_nodes: api.Lab) -> None:
    with (
        record.claimed(two_nodes.name),
        pytest.raises(HopliteError, match="being started or removed"),
    ):
        api.stop(two_nodes.name)


def test_the_bpf_file_system_is_mounted_and_unmounted_if_the_machine_had_none() -> None:
    script = """
import subprocess, sys
from pathlib import Path
from lab import bpffs, kernel
root = Path("/sys/fs/bpf")
while bpffs._mounted():
    kernel.unmount(root)
bpffs.ensure()
bpffs.ensure()
assert bpffs._mounted()
(root / "somebody").mkdir()
bpffs.release()
assert bpffs._mounted(), "somebody still needs it"
assert bpffs.pinned() == ["somebody"]
(root / "somebody").rmdir()
bpffs.release()
assert not bpffs._mounted()
assert bpffs.pinned() == []
"""
    # In a mount namespace of its own, so that the machine's is not touched.
    subprocess.run(["unshare", "--mount", sys.executable, "-c", script], check=True)
    if STATE_ROOT.exists() and not any(STATE_ROOT.iterdir()):
        STATE_ROOT.rmdir()
