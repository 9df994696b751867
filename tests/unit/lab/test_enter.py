"""The launcher puts a process where it belongs, with the rights it may have, before it runs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lab import cgroups, netns
from lab.processes import Place, launcher

pytestmark = pytest.mark.root

CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
NOBODY = 65534


@pytest.fixture
def group() -> Iterator[Path]:
    path = cgroups.mount_point() / f"hoplite-lab-test{os.getpid()}"
    cgroups.make(path)
    yield path
    cgroups.kill(path)
    cgroups.remove(path)


def run(place: Place, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        launcher(place, command),
        capture_output=True,
        text=True,
        pass_fds=place.listen_fds,
        check=False,
    )


def proc_status(place: Place) -> dict[str, str]:
    text = run(place, ["cat", "/proc/self/status"]).stdout
    return {key: value.strip() for key, _, value in (x.partition(":") for x in text.splitlines())}


def test_cgroup_and_namespace(group: Path) -> None:
    name = f"hl-test{os.getpid()}.enter"
    netns.create(name)
    try:
        place = Place(cgroup=str(group), netns=str(netns.path(name)))
        output = run(place, ["sh", "-c", "cat /proc/self/cgroup; readlink /proc/self/ns/net"])
        assert f"0::/{group.name}\n" in output.stdout
        inside = netns.within(name, Path("/proc/thread-self/ns/net").readlink)
        assert output.stdout.endswith(f"{inside}\n")
    finally:
        netns.remove(name)


def test_a_resolv_conf_of_its_own(group: Path, tmp_path: Path) -> None:
    machines = Path("/etc/resolv.conf").read_text()
    mounts = Path("/proc/self/mountinfo").read_text()
    own = tmp_path / "resolv.conf"
    own.write_text("nameserver 192.0.2.1\n")
    place = Place(cgroup=str(group), resolv_conf=str(own))
    assert run(place, ["cat", "/etc/resolv.conf"]).stdout == "nameserver 192.0.2.1\n"
    assert run(Place(cgroup=str(group)), ["cat", "/etc/resolv.conf"]).stdout == machines
    assert Path("/etc/resolv.conf").read_text() == machines
    assert Path("/proc/self/mountinfo").read_text() == mounts


def test_what_is_unmounted_on_the_machine_is_gone_for_those_with_a_resolv_conf_too(
    group: Path, tmp_path: Path
) -> None:
    """Lest a namespace's name, or the bpffs, stays for as long as somebody has looked at it."""
    name = f"hl-test{os.getpid()}.resolv"
    netns.create(name)
    own = tmp_path / "resolv.conf"
    own.touch()
    place = Place(cgroup=str(group), resolv_conf=str(own))
    held = subprocess.Popen(
        launcher(place, ["sh", "-c", "echo ready; cat >/dev/null"]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert held.stdout is not None
        assert held.stdout.readline() == "ready\n"
        seen = Path(f"/proc/{held.pid}/mountinfo")
        assert name in seen.read_text()
        netns.remove(name)
        assert name not in seen.read_text()
    finally:
        held.communicate()
        netns.remove(name)


@pytest.mark.parametrize("uid", [0, NOBODY], ids=["root", "nobody"])
def test_no_capability_is_left_and_none_can_be_gained(group: Path, uid: int) -> None:
    found = proc_status(Place(cgroup=str(group), privileged=False, uid=uid, gid=uid))
    assert {found[c] for c in CAPABILITIES} == {"0000000000000000"}
    assert found["NoNewPrivs"] == "1"
    assert set(found["Uid"].split()) == {str(uid)}
    assert set(found["Gid"].split()) == {str(uid)}
    assert found["Groups"] == ""


def test_root_without_capabilities_cannot_do_roots_work(group: Path) -> None:
    place = Place(cgroup=str(group), privileged=False)
    denied = run(place, [sys.executable, "-c", "import os; os.chroot('/')"])
    assert "Operation not permitted" in denied.stderr


def test_a_privileged_process_keeps_its_rights(group: Path) -> None:
    assert proc_status(Place(cgroup=str(group)))["CapEff"] != "0000000000000000"


def test_signals_have_their_default_meaning_and_no_descriptor_leaks(group: Path) -> None:
    found = proc_status(Place(cgroup=str(group)))
    glibcs_own = 0b11 << 31  # signals 32 and 33; its posix_spawn, as in make, ignores them
    assert int(found["SigIgn"], 16) & ~glibcs_own == 0
    listed = run(Place(cgroup=str(group)), ["ls", "/proc/self/fd"]).stdout.split()
    assert listed == ["0", "1", "2", "3"]  # 3 is ls's own


def test_sockets_are_handed_over_as_systemd_does(group: Path) -> None:
    code = (
        "import os, socket; assert int(os.environ['LISTEN_PID']) == os.getpid();"
        "print(os.environ['LISTEN_FDS'], *(socket.socket(fileno=fd).getsockname()[1]"
        " for fd in (3, 4)), sorted(map(int, os.listdir('/proc/self/fd')))[:5])"
    )
    with (
        socket.create_server(("127.0.0.1", 0)) as first,
        socket.create_server(("127.0.0.1", 0)) as second,
    ):
        fds = (second.fileno(), first.fileno())  # not in order of their numbers
        place = Place(cgroup=str(group), listen_fds=fds)
        ports = second.getsockname()[1], first.getsockname()[1]
        output = run(place, [sys.executable, "-c", code])
    assert output.stdout.startswith(f"2 {ports[0]} {ports[1]} "), output.stderr


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        (["no-such-program"], 127, "no-such-program: No such file or directory"),
        (["/etc/passwd"], 126, "/etc/passwd: Permission denied"),
    ],
)
def test_a_command_that_cannot_run_is_one_line(
    group: Path, command: list[str], code: int, text: str
) -> None:
    result = run(Place(cgroup=str(group)), command)
    assert (result.returncode, result.stderr) == (code, text + "\n")


def test_a_place_that_is_not_there_is_one_line() -> None:
    result = run(Place(cgroup="/no/such/group"), ["true"])
    assert result.returncode == 126
    assert result.stderr.startswith("true: cannot be started: ")
    assert "/no/such/group/cgroup.procs" in result.stderr


def test_a_resolv_conf_that_is_not_there_is_one_line(group: Path) -> None:
    result = run(Place(cgroup=str(group), resolv_conf="/no/such/file"), ["true"])
    assert result.returncode == 126
    assert result.stderr == (
        "true: cannot be started: [Errno 2] No such file or directory: "
        "'/no/such/file on /etc/resolv.conf'\n"
    )
