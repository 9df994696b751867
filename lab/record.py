"""What a lab keeps in its state directory, and which labs there are."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from lab.names import DEFAULT_NAME, STATE_ROOT, LabNames, check_name
from lab.plan import Plan
from meshapi.errors import HopliteError, NotFoundError


class Record(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """``lab.json``: the plan, and how the controller is reached."""

    phase: Literal["starting", "up"]
    plan: Plan
    cgroup: str
    server: str = ""
    ca_file: str = ""
    token_file: str = ""

    @property
    def names(self) -> LabNames:
        return LabNames(self.plan.lab)


def save(record: Record) -> None:
    """Replace ``lab.json`` at once, so that readers never see half of it."""
    path = record.names.record
    draft = path.with_suffix(".new")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(record)))
    draft.replace(path)


def load(name: str) -> Record:
    """The record of a lab that is up."""
    path = LabNames(name).record
    try:
        record = msgspec.json.decode(path.read_bytes(), type=Record)
    except FileNotFoundError:
        known = ", ".join(labs()) or "none"
        raise NotFoundError(
            f"there is no lab {name!r}", fix=f"labs that are up: {known}; see hoplite-lab up"
        ) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise HopliteError(
            f"cannot be read: {error}", where=str(path), fix=f"run: hoplite-lab down --name {name}"
        ) from error
    if record.phase != "up":
        raise HopliteError(
            f"lab {name!r} is not up yet",
            fix=f"wait for hoplite-lab up, or run: hoplite-lab down --name {name}",
        )
    return record


def labs() -> list[str]:
    """Every lab that has a state directory."""
    try:
        return sorted(p.name for p in STATE_ROOT.iterdir() if p.is_dir())
    except FileNotFoundError:
        return []


def chosen(name: str | None) -> str:
    """The lab that a verb without ``--name`` means: the only one there is, or ``lab``."""
    if name is not None:
        return check_name(name)
    found = labs()
    if len(found) > 1 and DEFAULT_NAME not in found:
        raise HopliteError(
            f"several labs are up: {', '.join(found)}", where="--name", fix="say which one"
        )
    return found[0] if len(found) == 1 else DEFAULT_NAME


@contextmanager
def claimed(name: str) -> Iterator[Path]:
    """Have a lab's state directory to oneself, made if need be; another claimant is refused.

    The kernel lets go of the claim when the process ends, however it ends.
    """
    path = LabNames(name).state
    path.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HopliteError(
                f"lab {name!r} is being started or removed by another process",
                fix="wait for it, or interrupt it",
            ) from None
        yield path
    finally:
        os.close(fd)
