from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import cgroups
from lab.processes import Place, last_line, start, workload_env


@pytest.fixture
def place() -> Iterator[Place]:
    path = cgroups.mount_point() / f"hoplite-lab-test{os.getpid()}"
    cgroups.make(path)
    yield Place(cgroup=str(path))
    cgroups.kill(path)
    cgroups.remove(path)


@pytest.mark.root
def test_a_process_runs_in_a_session_of_its_own_and_logs(place: Place, tmp_path: Path) -> None:
    log = tmp_path / "log"
    running = start("p", place, ["sh", "-c", "echo $A; echo bad >&2"], {"A": "x"}, log)
    running.process.wait()
    assert log.read_text() == "x\nbad\n"
    assert running.death() == "p ended with status 0: bad"


@pytest.mark.root
def test_deaths(place: Place, tmp_path: Path) -> None:
    alive = start("a", place, ["sleep", "60"], {}, tmp_path / "a")
    assert os.getsid(alive.process.pid) == alive.process.pid
    assert alive.death() == ""
    alive.process.kill()
    alive.process.wait()
    assert alive.death() == "a killed by signal 9"
    done = start("d", place, ["true"], {}, tmp_path / "d", lasting=False)
    failed = start("f", place, ["false"], {}, tmp_path / "f", lasting=False)
    done.process.wait()
    failed.process.wait()
    assert done.death() == ""
    assert failed.death() == "f ended with status 1"


def test_the_last_line_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_line(log) == ""
    log.write_bytes(b"")
    assert last_line(log) == ""
    log.write_bytes(b"x" * 10_000 + b"\nfirst\n\xff last \n\n")
    assert last_line(log) == "\ufffd last"
    log.write_text('{"time":"t","level":"error","logger":"l","message":"no disk","free":0}\n')
    assert last_line(log) == "no disk free=0"
    log.write_text('{"a":1}\n')
    assert last_line(log) == '{"a":1}'


def test_a_workload_inherits_nothing_but_terminal_and_language(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "vt100")
    monkeypatch.setenv("HOPLITE_TOKEN", "secret")
    env = workload_env({"A": "1", "PATH": "/bin"}, Path("/h"))
    assert env["A"] == "1"
    assert env["PATH"] == "/bin"
    assert env["HOME"] == "/h"
    assert env["TERM"] == "vt100"
    assert "HOPLITE_TOKEN" not in env
