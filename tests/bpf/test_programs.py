"""Every program passes this kernel's verifier; pins and links behave as survival needs them to."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshapi.errors import HopliteError
from nodeagent.datapath import attach, libbpf
from nodeagent.datapath.attach import Datapath
from nodeagent.datapath.programs import PROGRAMS, compile_text, source_folder, version
from nodeagent.layout import map_specs
from nodeagent.machine import cgroup_level
from tests.bpf.conftest import SIZES

pytestmark = pytest.mark.root


def cgroup2() -> Path:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if right.startswith("cgroup2 "):
            return Path(left.split()[4])
    pytest.skip("no cgroup v2 on this machine")


@pytest.fixture
def cgroup() -> Iterator[Path]:
    path = cgroup2() / f"hoplite-test-{os.getpid()}"
    (path / "proxy").mkdir(parents=True)
    yield path
    (path / "proxy").rmdir()
    path.rmdir()


def test_every_program_loads_and_the_second_start_needs_no_compiler(datapath: Datapath) -> None:
    attached = datapath.load()
    assert not attached.compiled
    programs = datapath.pins / f"programs-{attached.version}"
    assert {p.name for p in programs.iterdir()} == {p.name for p in PROGRAMS}


def test_links_are_pinned_and_a_new_version_takes_their_place(
    datapath: Datapath, cgroup: Path
) -> None:
    attached = datapath.load()
    datapath.attach(attached, "node", cgroup)
    links = sorted(p.name for p in (datapath.pins / "links").iterdir())
    assert links == sorted(p.name for p in PROGRAMS if p.target == "node")
    before = _link_program(datapath, "mesh_connect4")

    other = Datapath(datapath.pins, map_specs({**SIZES, "refused": 512}))
    upgraded = other.load()
    assert upgraded.compiled
    other.attach(upgraded, "node", cgroup)
    assert _link_program(other, "mesh_connect4") != before
    other.forget_old(upgraded)
    assert [p.name for p in datapath.pins.glob("programs-*")] == [f"programs-{upgraded.version}"]
    # and back, so that the module's other tests find what they loaded
    back = datapath.load()
    datapath.attach(back, "node", cgroup)
    shutil.rmtree(datapath.pins / "links")


def test_a_cgroup_made_anew_gets_new_links(datapath: Datapath, cgroup: Path) -> None:
    attached = datapath.load()
    proxy = cgroup / "proxy"
    datapath.attach(attached, "proxy", proxy)
    proxy.rmdir()
    proxy.mkdir()
    datapath.attach(attached, "proxy", proxy)
    for program in (p for p in PROGRAMS if p.target == "proxy"):
        link = libbpf.obj_get(datapath.pins / "links" / program.name)
        assert libbpf.link_target(link)[1] == proxy.stat().st_ino
        os.close(link)
    shutil.rmtree(datapath.pins / "links")


def test_a_program_that_does_not_compile_is_one_line(
    pins: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "bpf"
    shutil.copytree(source_folder(), broken)
    (broken / "service.h").write_text("this is not C\n")
    monkeypatch.setattr(attach, "source_folder", lambda: broken)
    with pytest.raises(HopliteError, match="does not compile") as refused:
        Datapath(pins / "broken", map_specs(SIZES)).load()
    assert "\n" not in str(refused.value)
    assert not list((pins / "broken").glob("programs-*"))


def test_a_program_that_the_verifier_refuses_is_named(
    pins: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "bpf"
    shutil.copytree(source_folder(), broken)
    peername = broken / "peername.c"
    text = peername.read_text()
    assert "if (flow) {" in text
    peername.write_text(text.replace("if (flow) {", "if (1) {"))  # a pointer that may be NULL
    monkeypatch.setattr(attach, "source_folder", lambda: broken)
    with pytest.raises(HopliteError, match="refuses the program mesh_getpeername4"):
        Datapath(pins / "refused", map_specs(SIZES)).load()


def test_the_version_is_the_whole_text(tmp_path: Path) -> None:
    specs = map_specs(SIZES)
    text = compile_text(source_folder(), specs, tmp_path, frozenset({"set-retval"}))
    assert version(text) != version(compile_text(source_folder(), specs, tmp_path, frozenset()))
    assert version(text) == version(
        compile_text(source_folder(), specs, tmp_path, frozenset({"set-retval"}))
    )


def test_levels_are_counted_from_the_root_of_the_hierarchy(cgroup: Path) -> None:
    assert cgroup_level(cgroup2()) == 0
    assert cgroup_level(cgroup) == 1
    assert cgroup_level(cgroup / "proxy") == 2


def _link_program(datapath: Datapath, name: str) -> int:
    link = libbpf.obj_get(datapath.pins / "links" / name)
    try:
        return libbpf.link_target(link)[0]
    finally:
        os.close(link)
