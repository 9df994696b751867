"""The last state this node was given, on disk: in force again before the controller is reached.

A file of feed lines. Changes are appended, each revision's closed by its REVISION line, so that
what a crash cut short is not read; when they outgrow the state itself the file is written anew and
renamed into place.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec

from meshapi.codec import encode
from meshapi.errors import HopliteError
from meshapi.resources import Key
from meshapi.watch import FeedReducer, Snapshot
from meshapi.wire import FeedFrame, MeshSettings

_LEAST_ROOM = 1 << 20  # bytes of changes before the file is written anew


class FeedStore:
    """One file in the state directory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._revision: int | None = None  # of what is on disk, as far as this process wrote it
        self._room = 0  # bytes that may still be appended
        self._mesh = MeshSettings()

    def save(self, snapshot: Snapshot) -> None:
        """Store a revision; it is on disk when this returns."""
        renamed = snapshot.mesh != self._mesh
        if self._revision is None or snapshot.changed is None or renamed:
            self._rewrite(snapshot)
        elif snapshot.changed or snapshot.revision != self._revision:
            self._append(_lines(_changes(snapshot, snapshot.changed)), snapshot)

    def load(self) -> Snapshot | None:
        """The stored state, or None if there is none; one that cannot be read is a refusal."""
        reducer = FeedReducer()
        snapshot = None
        try:
            with self._path.open("rb") as file:
                for line in file:
                    if line.endswith(b"\n"):  # otherwise it was cut short
                        snapshot = reducer.feed(line) or snapshot
        except FileNotFoundError:
            return None
        except HopliteError as error:
            raise HopliteError(
                f"the stored state cannot be read: {error}",
                where=str(self._path),
                fix="remove the file; the controller sends everything again",
            ) from error
        return snapshot and replace(snapshot, changed=None)

    def _append(self, lines: bytes, snapshot: Snapshot) -> None:
        if len(lines) > self._room:
            self._rewrite(snapshot)
            return
        self._revision = None  # until it is whole
        with self._path.open("ab") as file:
            _write(file.fileno(), lines)
        self._room -= len(lines)
        self._revision = snapshot.revision

    def _rewrite(self, snapshot: Snapshot) -> None:
        self._revision = None
        unfinished = self._path.with_suffix(".new")
        text = _lines(_whole(snapshot))
        with unfinished.open("wb") as file:
            _write(file.fileno(), text)
        unfinished.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)  # or the rename may be lost, and with it what is appended later
        finally:
            os.close(directory)
        self._room = max(len(text), _LEAST_ROOM)
        self._revision = snapshot.revision
        self._mesh = snapshot.mesh


def _whole(snapshot: Snapshot) -> Iterator[FeedFrame]:
    yield FeedFrame(type="RESET", mesh=snapshot.mesh)
    yield from _changes(snapshot, snapshot.objects)


def _changes(snapshot: Snapshot, keys: Iterable[Key]) -> Iterator[FeedFrame]:
    for key in keys:
        resource = snapshot.objects.get(key)
        if resource is not None:
            yield FeedFrame(type="PUT", object=encode(resource))
        else:
            yield FeedFrame(type="DELETE", kind=key.kind, namespace=key.namespace, name=key.name)
    yield FeedFrame(type="REVISION", revision=snapshot.revision)


def _lines(frames: Iterable[FeedFrame]) -> bytes:
    return b"".join(msgspec.json.encode(frame) + b"\n" for frame in frames)


def _write(fd: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
    os.fsync(fd)
