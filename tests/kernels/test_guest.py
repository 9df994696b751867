"""The guests themselves: what goes in, what comes out, and that nothing stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.vm import catalog, fetch, guest
from lab.vm.catalog import Kernel
from lab.vm.fetch import KernelTree
from meshapi.errors import HopliteError
from tests.mesh.asking import eventually

pytestmark = [pytest.mark.kernels, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def kernel() -> KernelTree:
    (tree,) = fetch.fetch(["6.1"])
    return tree


@pytest.fixture(autouse=True)
def nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Guests put their files below a directory that is known, and take them away."""
    place = tmp_path / "guests"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield
    assert list(place.iterdir()) == []
    assert children(os.getpid()) == []
    assert not list(Path("/run/virtiofsd").glob(f"{str(place).replace('/', '.')}*"))


def children(parent: int) -> list[int]:
    """The processes that a process has started and that have not ended."""
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(pid) for pid in found.split()]


def test_status_and_output_come_back(kernel: KernelTree, tmp_path: Path) -> None:
    heard: list[str] = []
    script = "uname -r; echo 'more than one word' >&2; cat /run/guest/in; id -u; exit 7"
    (tmp_path / "in").write_text("from the host\n")
    ended = guest.run(kernel, ["sh", "-c", script], timeout=100, shared=tmp_path, hear=heard.append)
    assert ended.status == 7
    assert ended.output == f"{kernel.release}\nmore than one word\nfrom the host\n0\n"
    assert heard == ended.output.splitlines()


def test_only_the_shared_directory_is_written(kernel: KernelTree, tmp_path: Path) -> None:
    trace = ROOT / f"written-by-a-guest-{os.getpid()}"
    script = f"touch {trace} && test -e {trace} && mount -o remount,rw / && rm -rf /usr/bin/env; "
    script += "echo done >/run/guest/out"
    ended = guest.run(kernel, ["sh", "-c", script], timeout=100, shared=tmp_path)
    assert ended.status == 0
    assert (tmp_path / "out").read_text() == "done\n"
    assert not trace.exists()
    assert Path("/usr/bin/env").exists()


def test_a_guest_that_takes_too_long_is_ended(kernel: KernelTree) -> None:
    with pytest.raises(HopliteError, match="was not done after 8 s"):
        guest.run(kernel, ["sleep", "1000"], timeout=8)


def test_a_guest_whose_kernel_panics_says_so(kernel: KernelTree) -> None:
    with pytest.raises(HopliteError, match="its kernel panicked"):
        guest.run(kernel, ["sh", "-c", "echo c >/proc/sysrq-trigger; sleep 99"], timeout=100)


def test_a_guest_dies_with_whoever_started_it(kernel: KernelTree, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lab.vm", kernel.name, "--", "sleep", "1000"]
    place = str(tmp_path / "guests")
    starter = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "TMPDIR": place})
    eventually(lambda: len(children(starter.pid)) == 2, patience=30)  # virtiofsd and QEMU
    started = children(starter.pid)
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started))
    for left in Path(place).iterdir():  # which nobody was there to remove
        for file in left.iterdir():
            file.unlink()
        left.rmdir()


def test_a_suite_that_debian_does_not_have_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setattr(catalog, "KERNELS", (Kernel("old", ("no-such-suite",)),))
    monkeypatch.setattr(fetch, "CACHE", cache)
    with pytest.raises(HopliteError, match="no-such-suite") as refused:
        fetch.fetch(["old"])
    assert "\n" not in str(refused.value)
    assert list(cache.iterdir()) == []


def test_a_kernel_is_fetched_once(kernel: KernelTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")  # so that neither apt nor anything else can be called
    assert fetch.fetch([kernel.name]) == [kernel]
