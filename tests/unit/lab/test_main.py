"""The command line, as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from lab import api

LAB = [sys.executable, "-m", "lab"]
NAME = f"unit{os.getpid()}-none"


def run(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LAB, *words], capture_output=True, text=True, input=stdin, check=False, timeout=60
    )


def refusal(*words: str, stdin: str = "") -> str:
    result = run(*words, stdin=stdin)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_usage() -> None:
    assert run().returncode == 2
    assert run("fly").returncode == 2
    for verb in ("up", "down", "env", "exec", "status", "logs"):
        assert verb in run("--help").stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["up", "/no/such/file"], "hoplite-lab: /no/such/file: cannot be read: No such file"),
        (["up", "-"], "hoplite-lab: <stdin>: no Lab in it; add apiVersion"),
        (
            ["up", "-", "--name", "A"],
            "hoplite-lab: --name: 'A' is not a lab's name; use lower-case",
        ),
        (["env", "--name", NAME], f"hoplite-lab: there is no lab '{NAME}'"),
        (["status", "--name", NAME], f"hoplite-lab: there is no lab '{NAME}'"),
        (["logs", "x", "--name", NAME], "hoplite-lab: there is no log of 'x'; there are none"),
    ],
)
def test_refusals_are_one_line(words: list[str], expected: str) -> None:
    assert refusal(*words).startswith(expected)


def test_a_file_that_is_not_text(tmp_path: object) -> None:
    assert "cannot be read: Is a directory" in refusal("up", str(tmp_path))
    assert "not UTF-8; save it as UTF-8" in refusal("up", sys.executable)


@pytest.mark.root
def test_down_of_a_lab_that_is_not_there_succeeds() -> None:
    result = run("down", "--name", NAME)
    assert (result.returncode, result.stdout) == (
        0,
        f"there is no lab '{NAME}'; nothing to remove\n",
    )


@pytest.mark.root
def test_exec_is_the_command(two_nodes: api.Lab) -> None:
    name = ["--name", two_nodes.name]
    result = run("exec", *name, "node1/shop/web", "--", "sh", "-c", "cat; exit 3", stdin="x")
    assert (result.returncode, result.stdout, result.stderr) == (3, "x", "")
    result = run("exec", "node1", *name, "--", "sh", "-c", "kill -9 $$")
    assert result.returncode == 137
    result = run("exec", *name, "node1", "--", "echo", "--", "-x")
    assert result.stdout == "-- -x\n"
    result = run("exec", *name, "node1", "--", "nosuch")
    assert (result.returncode, result.stderr) == (127, "nosuch: No such file or directory\n")
    assert "no command given" in refusal("exec", *name, "node1")
    assert "no command given" in refusal("exec", *name, "node1", "--")
    assert "did you mean node1/shop/web" in refusal("exec", *name, "node1/shop/wob", "--", "true")


@pytest.mark.root
def test_exec_passes_signals_on(two_nodes: api.Lab) -> None:
    command = ["sh", "-c", "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done"]
    process = subprocess.Popen(
        [*LAB, "exec", "--name", two_nodes.name, "node1", "--", *command],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)  # the command's business, not ours
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=10)[0] == "bye\n"
    assert process.returncode == 5


@pytest.mark.root
def test_env_status_and_logs(two_nodes: api.Lab) -> None:
    name = ["--name", two_nodes.name]
    assert f"export HOPLITE_LAB={two_nodes.name}\n" in run("env", *name).stdout
    status = json.loads(run("status", *name, "-o", "json").stdout)
    assert [n["name"] for n in status["nodes"]] == ["node1", "node2"]
    assert status["workloads"][0]["target"] == "node1/shop/web"
    assert status["problem"]
    assert "not running" in run("status", *name).stdout
    (two_nodes.record.names.logs / "node1.agent.log").write_text("hello\n")
    assert run("logs", *name).stdout == "node1/agent\n"
    assert run("logs", *name, "node1/agent").stdout == "hello\n"
    assert "there is no log of 'x'; there are node1/agent" in refusal("logs", *name, "x")
