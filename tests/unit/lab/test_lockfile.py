"""requirements.lock pins what pyproject.toml asks for, and names no place of its own."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
LOCK = (ROOT / "requirements.lock").read_text()
PINS = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", LOCK, re.MULTILINE))


def test_every_dependency_is_pinned_to_a_version_that_will_do() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = list(project["project"]["dependencies"])
    for extra in project["project"]["optional-dependencies"].values():
        wanted += extra
    wanted += project["build-system"]["requires"]
    assert wanted
    for text in wanted:
        requirement = Requirement(text)
        pinned = PINS.get(canonicalize_name(requirement.name))
        assert pinned is not None, f"{text} is not in requirements.lock; run: make lock"
        assert requirement.specifier.contains(pinned), f"{text}, not {pinned}; run: make lock"


def test_every_pin_has_hashes() -> None:
    blocks = re.split(r"^(?=[a-z0-9-]+==)", LOCK, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(PINS)
    assert all("--hash=sha256:" in block for block in blocks)


def test_no_address_or_path() -> None:
    assert not re.search(r"://|index-url|find-links| @ |/\w+/", LOCK)
