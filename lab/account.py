"""Who the unprivileged daemons run as: the owner of this installation."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # where the daemons' packages are


@dataclass(frozen=True)
class Account:
    """A user and group by number; uid 0 runs with every capability dropped."""

    uid: int
    gid: int

    def own(self, *paths: Path) -> None:
        """Make directories that belong to this account."""
        for path in paths:
            path.mkdir(parents=True, exist_ok=True)
            os.chown(path, self.uid, self.gid)


def unprivileged(root: Path = ROOT) -> Account:
    """The installation's owner, if that is not root and can get at it; otherwise uid 0."""
    owner = root.stat()
    if owner.st_uid != 0 and all(_passable(p, owner) for p in (root, *root.parents)):
        return Account(owner.st_uid, owner.st_gid)
    return Account(0, 0)


def _passable(directory: Path, user: os.stat_result) -> bool:
    found = directory.stat()
    if found.st_uid == user.st_uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid == user.st_gid:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)
