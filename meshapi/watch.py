"""The feed's reducer: lines in, consistent snapshots out. No I/O (sans-io).

A snapshot is handed out only at a REVISION frame, so a reader never acts on half a change.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from meshapi.codec import convert, decode, parse_json
from meshapi.errors import HopliteError
from meshapi.resources.registry import Key, Resource, key_of
from meshapi.wire import FeedFrame, MeshSettings


@dataclass(frozen=True)
class Snapshot:
    """Everything a node needs, as of one revision of the controller's store."""

    revision: int
    objects: dict[Key, Resource]
    mesh: MeshSettings = field(default_factory=MeshSettings)


@dataclass
class FeedReducer:
    """Holds the objects of one feed; ``feed`` returns a snapshot whenever one is complete."""

    objects: dict[Key, Resource] = field(default_factory=dict)
    revision: int = 0
    mesh: MeshSettings = field(default_factory=MeshSettings)

    def feed(self, line: bytes) -> Snapshot | None:
        """Take one line of the feed; a line this version cannot read is a refusal."""
        frame = convert(parse_json(line), FeedFrame, "feed")
        match frame.type:
            case "RESET":
                self.objects = {}
                self.mesh = frame.mesh or MeshSettings()
            case "PUT":
                if frame.object is None:
                    raise HopliteError("PUT without an object", where="feed")
                resource = decode(frame.object)
                self.objects[key_of(resource)] = resource
            case "DELETE":
                self.objects.pop(Key(frame.kind, frame.namespace, frame.name), None)
            case "REVISION":
                self.revision = frame.revision
                return Snapshot(frame.revision, dict(self.objects), self.mesh)
            case "PING":
                pass
        return None
