"""One l7proxy per run directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from meshapi.errors import ConfigError


class Lock:
    """Holds ``path`` locked as long as the process lives; it says who holds it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("a+")

    def __enter__(self) -> Self:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.seek(0)
            owner = self._file.read().strip() or "unknown"
            raise ConfigError(
                f"another hoplite-l7proxy (process {owner}) uses this run directory",
                where=str(self._path.parent),
                fix="stop it first or set another runDir",
            ) from error
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
