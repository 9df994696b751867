"""The feed's reducer: lines in, consistent snapshots out. No I/O (sans-io).

A snapshot is handed out only at a REVISION frame, so a reader never acts on half a change.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from meshapi.codec import convert, decode, parse_json
from meshapi.errors import HopliteError
from meshapi.resources.registry import Key, Resource, key_of
from meshapi.wire import FeedFrame, MeshSettings


@dataclass(frozen=True)
class Snapshot:
    """Everything a node needs, as of one revision of the controller's store.

    ``changed`` are the objects that may differ from the snapshot before; None: all of them.
    """

    revision: int
    objects: dict[Key, Resource]
    mesh: MeshSettings = field(default_factory=MeshSettings)
    changed: frozenset[Key] | None = None

    def after(self, older: Snapshot) -> Snapshot:
        """The same for a reader that has seen neither this one nor ``older``."""
        if self.changed is None or older.changed is None:
            return replace(self, changed=None)
        return replace(self, changed=self.changed | older.changed)


@dataclass
class FeedReducer:
    """Holds the objects of one feed; ``feed`` returns a snapshot whenever one is complete."""

    objects: dict[Key, Resource] = field(default_factory=dict)
    revision: int = 0
    mesh: MeshSettings = field(default_factory=MeshSettings)
    _changed: set[Key] | None = None

    def feed(self, line: bytes) -> Snapshot | None:
        """Take one line of the feed; a line this version cannot read is a refusal."""
        frame = convert(parse_json(line), FeedFrame, "feed")
        match frame.type:
            case "RESET":
                self.objects = {}
                self._changed = None
                self.mesh = frame.mesh or MeshSettings()
            case "PUT":
                if frame.object is None:
                    raise HopliteError("PUT without an object", where="feed")
                resource = decode(frame.object)
                self._touch(key_of(resource), resource)
            case "DELETE":
                self._touch(Key(frame.kind, frame.namespace, frame.name), None)
            case "REVISION":
                self.revision = frame.revision
                changed = None if self._changed is None else frozenset(self._changed)
                self._changed = set()
                return Snapshot(frame.revision, dict(self.objects), self.mesh, changed)
            case "PING":
                pass
        return None

    def _touch(self, key: Key, resource: Resource | None) -> None:
        if resource is None:
            self.objects.pop(key, None)
        else:
            self.objects[key] = resource
        if self._changed is not None:
            self._changed.add(key)
