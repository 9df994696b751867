"""The last state this node was given, on disk: in force again before the controller is reached.

A file of feed lines, written whole and renamed into place, so that it is either the former revision
or the new one.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from meshapi.codec import encode
from meshapi.errors import HopliteError
from meshapi.watch import FeedReducer, Snapshot
from meshapi.wire import FeedFrame, MeshSettings


class FeedStore:
    """One file in the state directory. ``mesh`` is what its state says of the mesh as a whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.mesh = MeshSettings()

    def save(self, snapshot: Snapshot) -> None:
        """Replace the stored state; it is on disk when this returns."""
        frames = [FeedFrame(type="RESET", mesh=snapshot.mesh)]
        frames += [FeedFrame(type="PUT", object=encode(o)) for o in snapshot.objects.values()]
        frames.append(FeedFrame(type="REVISION", revision=snapshot.revision))
        unfinished = self._path.with_suffix(".new")
        with unfinished.open("wb") as file:
            file.writelines(msgspec.json.encode(frame) + b"\n" for frame in frames)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self._path)
        self.mesh = snapshot.mesh

    def load(self) -> Snapshot | None:
        """The stored state, or None if there is none; one that cannot be read is a refusal."""
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return None
        reducer = FeedReducer()
        snapshot = None
        try:
            for line in lines:
                snapshot = reducer.feed(line) or snapshot
        except HopliteError as error:
            raise HopliteError(
                f"the stored state cannot be read: {error}",
                where=str(self._path),
                fix="remove the file; the controller sends everything again",
            ) from error
        if snapshot is not None:
            self.mesh = snapshot.mesh
        return snapshot
