from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from meshapi.errors import HopliteError
from nodeagent.datapath import features
from nodeagent.datapath.features import FEATURES, OLDEST, Feature
from nodeagent.datapath.programs import compile_text, source_folder

EVERY = frozenset(f.name for f in FEATURES)
DOCS = Path(__file__).parents[4] / "docs" / "kernels.md"


@dataclass(frozen=True)
class Answer:
    """A kernel that says what it is told to."""

    answer: bool

    def present(self) -> bool:
        return self.answer


def test_each_kernel_is_asked_by_what_it_can_do() -> None:
    table = [Feature("there", Answer(True), "1.0"), Feature("missing", Answer(False), "9.9")]
    assert features.probe(table) == {"there"}


def test_a_kernel_that_has_everything_is_taken() -> None:
    features.check(EVERY)
    assert set(features.describe(EVERY).values()) == {"yes"}


def test_what_is_done_without_is_said_and_no_reason_to_refuse() -> None:
    needed = frozenset(f.name for f in FEATURES if f.needed_for)
    features.check(needed)
    described = features.describe(needed)
    assert set(described) == EVERY - needed
    assert described["set-retval"] == (
        "no (needs Linux 5.18): a refused connect() says EPERM whatever the reason"
    )


def test_a_kernel_that_is_too_old_is_refused_in_one_line() -> None:
    with pytest.raises(HopliteError) as refused:
        features.check(EVERY - {"ring-buffer"}, "5.4.0-1-amd64")
    assert str(refused.value) == (
        "kernel 5.4.0-1-amd64 has no ring-buffer (Linux 5.8), needed for flow records; "
        "boot Linux 5.10 or newer"
    )


def test_everything_that_is_missing_is_named() -> None:
    with pytest.raises(HopliteError) as refused:
        features.check(frozenset(), "4.19.0-27-amd64")
    line = str(refused.value)
    assert line.startswith("kernel 4.19.0-27-amd64 has no ")
    assert "\n" not in line
    for feature in FEATURES:
        assert (feature.name in line) == bool(feature.needed_for)


def test_nothing_is_needed_that_the_oldest_kernel_lacks() -> None:
    def version(text: str) -> tuple[int, ...]:
        return tuple(map(int, text.split(".")))

    for feature in FEATURES:
        assert bool(feature.needed_for) != bool(feature.without), feature.name
        if feature.needed_for:
            assert version(feature.since) <= version(OLDEST)


def test_constants_of_the_c_sources_are_all_made_here(tmp_path: Path) -> None:
    text = compile_text(source_folder(), (), tmp_path, frozenset({"set-retval"}))
    assert "#define HAVE_SET_RETVAL 1\n" in text
    assert "#define HAVE_NETNS_COOKIE 0\n" in text
    made = {f.constant for f in FEATURES if f.constant}
    assert set(re.findall(r"\bHAVE_[A-Z_]+\b", text)) == made


def test_people_can_read_about_every_feature() -> None:
    text = DOCS.read_text().partition("## What is done without")[2].partition("\n## ")[0]
    for feature in FEATURES:
        assert f"`{feature.name}`" in text
        assert feature.since in text
