from __future__ import annotations

from pathlib import Path

import pytest

from lab.names import NODE_NAME_LENGTH, LabNames, check_name, lab_of_cgroup, lab_of_netns
from meshapi.errors import HopliteError


@pytest.mark.parametrize("name", ["lab", "a", "my-lab-2", "x" * 24])
def test_good_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a.b", "a/b", "..", "a_b", "x" * 25])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(HopliteError, match="is not a lab's name"):
        check_name(name)


def test_a_lab_is_never_taken_for_another_whose_name_begins_alike() -> None:
    short, long = LabNames("a"), LabNames("a-b")
    assert lab_of_netns(long.netns("node1")) == "a-b"
    assert lab_of_netns(short.netns("b", "c")) == "a"
    assert lab_of_cgroup(long.cgroup(Path("/c")).name) == "a-b"
    assert lab_of_cgroup(short.cgroup(Path("/c")).name) == "a"


def test_what_is_not_a_labs_is_nobodys() -> None:
    assert lab_of_netns("my-netns") is None
    assert lab_of_netns("hl-lab") is None
    assert lab_of_cgroup("system.slice") is None


def test_the_longest_socket_path_fits_a_unix_address() -> None:
    run = LabNames("x" * 24).node("n" * NODE_NAME_LENGTH) / "l7proxy" / "run"
    assert len(str(run / "envoy-admin.sock")) <= 107


def test_logs_are_named_by_process() -> None:
    assert LabNames("lab").log("node1/agent").name == "node1.agent.log"
    assert LabNames("lab").log("controller").name == "controller.log"
