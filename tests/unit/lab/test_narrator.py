from __future__ import annotations

import io

import pytest
from rich.console import Console

from lab.narrator import Narrator
from meshapi.errors import HopliteError


def told() -> tuple[Narrator, io.StringIO]:
    out = io.StringIO()
    return Narrator(Console(file=out, width=100)), out


def test_a_command_is_shown_with_its_output() -> None:
    tell, out = told()
    tell.step("First", "why")
    assert tell.run("sh", "-c", "echo [x]; echo e >&2") == "[x]\n"
    assert out.getvalue() == "\n1. First\nwhy\n$ sh -c 'echo [x]; echo e >&2'\n[x]\ne\n"
    assert tell.run("sh", "-c", "echo e >&2; exit 1", fails=True) == "e\n"


def test_long_output_is_cut_in_what_is_shown_only() -> None:
    tell, out = told()
    assert tell.run("seq", "100").count("\n") == 100
    assert "… 84 more lines" in out.getvalue()
    tell.run("seq", "-s", ",", "1000")
    assert max(map(len, out.getvalue().splitlines())) == 161
    assert tell.run("seq", "3", show=lambda text: text[:1]) == "1\n2\n3\n"


def test_the_environment_is_handed_on() -> None:
    tell, _ = told()
    tell.env = {"COLOUR": "blue"}
    assert tell.run("sh", "-c", "echo $COLOUR") == "blue\n"


def test_what_does_not_hold_fails_the_demo() -> None:
    tell, out = told()
    tell.step("First")
    tell.expect(True, "good")
    assert "✓ good" in out.getvalue()
    with pytest.raises(HopliteError, match="demo step 1: not so: bad"):
        tell.expect(False, "bad")
    with pytest.raises(HopliteError, match="demo step 1: false ended with status 1"):
        tell.run("false")
    with pytest.raises(HopliteError, match="demo step 1: true succeeded"):
        tell.run("true", fails=True)
    assert tell.run("false", fails=True) == ""
    tell.patience = 0.1
    with pytest.raises(HopliteError, match=r"demo step 1: sleep 9 took over 0.1 s"):
        tell.run("sleep", "9")


def test_our_own_commands_run_installed_or_not() -> None:
    tell, _ = told()
    assert "hoplite-lab" in tell.run("hoplite-lab", "--help")
