"""The event lines of one watch: what each change of the log is to its client. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from controller.api.problems import Status
from controller.api.select import Selection
from controller.reports import visible
from controller.status import COMPUTED, View
from controller.store.base import Action, LogEntry
from meshapi import codec
from meshapi.resources import Key, Kind, MeshNode, MeshNodeStatus, Resource, key_of

SWEEP_INTERVAL = 1.0  # seconds


class Follower:
    """What one watch has shown so far. Pure."""

    def __init__(self, kind: Kind, chosen: Selection) -> None:
        self._kind = kind
        self._chosen = chosen
        self.computed = issubclass(kind.type, COMPUTED)
        self._shown: dict[Key, Resource] = {}
        self._nodes: dict[str, MeshNodeStatus] = {}
        self._revision = 0
        self._next_sweep = 0.0

    def start(self, view: View) -> Iterator[bytes]:
        """ADDED for every object that is there and wanted."""
        for resource in self._present(view):
            yield _event("ADDED", self._show(view, resource))

    def _present(self, view: View) -> Iterator[Resource]:
        for resource in view.state.objects(self._kind).values():
            if self._chosen.takes(resource):
                yield resource

    def _show(self, view: View, resource: Resource) -> Resource:
        """The object with its status, remembered as shown."""
        shown = view.show(resource)
        if self.computed:
            self._shown[key_of(resource)] = _comparable(shown)
        return shown

    def entry(self, view: View, entry: LogEntry) -> Iterator[bytes]:
        """The event that a change is to this watch; leaving its selection is a deletion."""
        now = self._read(entry.value, entry.revision)
        before = self._read(entry.previous, entry.revision) if entry.previous else None
        was = before is not None and self._chosen.takes(before)
        stays = entry.action != "DELETED" and self._chosen.takes(now)
        if stays:
            current = view.state.get(entry.key)
            newest = current is not None and current.metadata.resource_version == str(
                entry.revision
            )
            shown = self._show(view, now) if newest else now
            yield _event("MODIFIED" if was else "ADDED", shown)
        elif was:
            self._shown.pop(entry.key, None)
            yield _event("DELETED", now)

    def moved(self, view: View, now: float) -> Iterator[bytes]:
        """MODIFIED for every object whose computed status differs from what was shown.

        ``now`` is any clock in seconds; looks less than SWEEP_INTERVAL apart find nothing.
        """
        if not self.computed or now < self._next_sweep:
            return
        self._next_sweep = now + SWEEP_INTERVAL
        nodes = {name: visible(status) for name, status in view.nodes.items()}
        if nodes == self._nodes and view.state.revision == self._revision:
            return
        self._nodes, self._revision = nodes, view.state.revision
        for resource in self._present(view):
            before = self._shown.get(key_of(resource))
            shown = self._show(view, resource)
            if before is not None and _comparable(shown) != before:
                yield _event("MODIFIED", shown)

    def _read(self, value: bytes, revision: int) -> Resource:
        resource: Resource = msgspec.json.decode(value, type=self._kind.type)
        metadata = replace(resource.metadata, resource_version=str(revision))
        read: Resource = replace(resource, metadata=metadata)
        return read


def _comparable(resource: Resource) -> Resource:
    if isinstance(resource, MeshNode):
        return replace(resource, status=visible(resource.status))
    return resource


def _event(action: Action, resource: Resource) -> bytes:
    return _line(action, codec.encode_json(resource))


def bookmark(kind: Kind, revision: int, *, initial: bool = False) -> bytes:
    """How far the watch has come; ``initial`` ends the objects that were there before it."""
    metadata: dict[str, object] = {"resourceVersion": str(revision)}
    if initial:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    body = {"kind": kind.name, "apiVersion": kind.api_version, "metadata": metadata}
    return _line("BOOKMARK", msgspec.json.encode(body))


def failed(status: Status) -> bytes:
    return _line("ERROR", msgspec.json.encode(status))


def _line(kind: str, body: bytes) -> bytes:
    return b'{"type":"%b","object":%b}\n' % (kind.encode(), body)
