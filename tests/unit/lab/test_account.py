from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from lab.account import Account, unprivileged

OTHER = 12345


def test_an_installation_of_ones_own(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        assert unprivileged(tmp_path).uid in (os.geteuid(), 0)
    else:
        assert unprivileged(tmp_path) == Account(0, 0)


@pytest.mark.root
def test_the_owner_of_the_installation() -> None:
    with tempfile.TemporaryDirectory() as root:  # pytest's own are closed to others
        os.chown(root, OTHER, OTHER)
        Path(root).chmod(0o700)
        assert unprivileged(Path(root)) == Account(OTHER, OTHER)


@pytest.mark.root
def test_an_owner_who_cannot_get_at_it_is_not_used(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    inner = closed / "inner"
    inner.mkdir(parents=True)
    closed.chmod(0o700)
    os.chown(inner, OTHER, OTHER)
    assert unprivileged(inner) == Account(0, 0)


@pytest.mark.root
def test_own_makes_directories_of_the_account(tmp_path: Path) -> None:
    made = tmp_path / "a" / "b"
    Account(OTHER, OTHER).own(made)
    assert (made.stat().st_uid, made.stat().st_gid) == (OTHER, OTHER)
    assert made.parent.stat().st_uid == 0
