from __future__ import annotations

from pathlib import Path

import pytest

from lab import names, record
from lab.plan import Plan
from lab.record import Record
from meshapi.errors import HopliteError


@pytest.fixture(autouse=True)
def state_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(names, "STATE_ROOT", tmp_path)
    monkeypatch.setattr(record, "STATE_ROOT", tmp_path)
    return tmp_path


def made(name: str, **more: str) -> Record:
    (names.STATE_ROOT / name).mkdir(exist_ok=True)
    plan = Plan(lab=name, fabric="f", nodes=())
    written = Record(**{"phase": "up", "plan": plan, "cgroup": "/c", **more})  # type: ignore[arg-type]
    record.save(written)
    return written


def test_what_is_saved_is_loaded() -> None:
    assert made("a", server="https://x") == record.load("a")


def test_a_lab_that_is_not_there_names_those_that_are() -> None:
    made("other")
    with pytest.raises(HopliteError, match="there is no lab 'a'; labs that are up: other"):
        record.load("a")


def test_a_broken_record_says_what_to_do(state_root: Path) -> None:
    made("a")
    (state_root / "a" / "lab.json").write_text("{")
    with pytest.raises(HopliteError, match=r"lab.json: cannot be read: .*down --name a"):
        record.load("a")


def test_a_lab_that_is_still_starting_cannot_be_used() -> None:
    made("a", phase="starting")
    with pytest.raises(HopliteError, match="not up yet"):
        record.load("a")


def test_which_lab_is_meant() -> None:
    assert record.chosen(None) == "lab"
    made("one")
    assert record.chosen(None) == "one"
    assert record.chosen("two") == "two"
    made("two")
    with pytest.raises(HopliteError, match="several labs are up: one, two; say which one"):
        record.chosen(None)
    made("lab")
    assert record.chosen(None) == "lab"
    with pytest.raises(HopliteError, match="is not a lab's name"):
        record.chosen("../etc")


def test_one_claim_at_a_time() -> None:
    with (
        record.claimed("a"),
        pytest.raises(HopliteError, match="being started or removed"),
        record.claimed("a"),
    ):
        pass
    with record.claimed("a") as path:
        assert path.is_dir()
