"""Hands what live maps hold over to maps of another layout, when an upgrade brings one.

Maps of desired state are simply written anew. What only the kernel knows (open connections, UDP
exchanges, which backend a socket was given, counters, unread events) is converted: fields are known
by name, new ones begin as zero, dropped ones go. A file keeps the layouts of the maps that are
pinned, because the new release does not know the old one's.

The programs of before run on while their maps are copied, so it is done twice: right before the new
ones take their places, and right afterwards for what came or went meanwhile. What an entry counted
in between, for the milliseconds that it takes, stays behind.

In arrays a hash says where things are. In one of another length they are elsewhere: such a map
begins anew.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec

from meshapi.errors import HopliteError
from nodeagent.datapath.libbpf import KernelMap, obj_get
from nodeagent.datapath.ring import Ring
from nodeagent.layout import MapSpec, Record

_log = logging.getLogger(__name__)

Layouts = dict[str, tuple[Record, Record]]  # key and value, by the pin's name

_RING = "ringbuf"
_ARRAY = "array"


class Inheritance:
    """From the live maps of former releases to those of this one."""

    def __init__(self, folder: Path, file: Path, specs: tuple[MapSpec, ...]) -> None:
        self._folder = folder
        self._file = file
        self._live = [spec for spec in specs if spec.record is not None]
        self.known = _read(file)
        self._copied: dict[str, set[bytes]] = {spec.name: set() for spec in self._live}
        self._lost = Counter[str]()

    def begin(self) -> None:
        """Copy what maps of other layouts hold, and note the layouts of now."""
        for spec in self._live:
            for new, entries in self._pending(spec):
                for key, value in entries:
                    self._hand_over(spec, new, key, value)
                    self._copied[spec.name].add(key)
        self._write()

    def finish(self) -> bytes:
        """Copy what has come since, drop what has gone; the events that nobody has read."""
        events = []
        for spec in self._live:
            copied = self._copied[spec.name]
            for new, entries in self._pending(spec):
                still = set()
                for key, value in entries:
                    still.add(key)
                    if key not in copied:  # the new programs may have taken away one that was
                        self._hand_over(spec, new, key, value)
                for gone in copied - still:
                    new.delete(gone)
            if spec.kind == _RING:
                events += list(self._events(spec))
        for name, count in self._lost.items():
            _log.warning("a map was too small for what was in use", extra={"map": name, "n": count})
        return b"".join(events)

    def _hand_over(self, spec: MapSpec, new: KernelMap, key: bytes, value: bytes) -> None:
        if spec.kind == _ARRAY:
            if new.get(key) == bytes(spec.value):
                new.put(key, value)
        elif not new.insert(key, value) and new.get(key) is None:
            self._lost[new.name] += 1

    def _former(self, spec: MapSpec) -> Iterator[tuple[Path, Record, Record]]:
        """Pins of the same map in another layout that is known."""
        for path in sorted(self._folder.glob(f"{spec.name}@*")):
            if spec.kind == _ARRAY and _entries(path) != spec.entries:
                continue
            if path.name != spec.pin and path.name in self.known:
                yield path, *self.known[path.name]

    def _pending(self, spec: MapSpec) -> Iterator[tuple[KernelMap, Iterator[tuple[bytes, bytes]]]]:
        """The map of now, and the entries of each former one in its layout."""
        if spec.record is None or spec.kind == _RING:
            return
        key_now, value_now = spec.record
        for path, key, value in self._former(spec):
            new = KernelMap(self._folder / spec.pin, spec.key, spec.value)
            old = KernelMap(path, key.size, value.size)
            try:
                yield (
                    new,
                    (
                        (key_now.pack(key.unpack(k)), value_now.pack(value.unpack(v)))
                        for k, v in old.items()
                    ),
                )
            finally:
                old.close()
                new.close()

    def _events(self, spec: MapSpec) -> Iterator[bytes]:
        """Unread records of former rings, in the layout of now."""
        for path, _, was in self._former(spec):
            fd = obj_get(path)
            ring = Ring(fd, _entries(path), was.size)
            try:
                raw = ring.drain()
            finally:
                ring.close()
                os.close(fd)
            assert spec.record is not None  # noqa: S101 - only such specs are here
            for at in range(0, len(raw), was.size):
                yield spec.record[1].pack(was.unpack(raw[at : at + was.size]))

    def _write(self) -> None:
        here = {path.name for path in self._folder.iterdir()}
        known = {name: layout for name, layout in self.known.items() if name in here}
        known |= {spec.pin: spec.record for spec in self._live if spec.record is not None}
        unfinished = self._file.with_suffix(".new")
        unfinished.write_bytes(encode_layouts(known))
        unfinished.replace(self._file)


def encode_layouts(layouts: Layouts) -> bytes:
    """What the file of layouts holds."""
    return msgspec.json.encode(layouts)


def _entries(path: Path) -> int:
    """How many entries, or bytes of a ring, a pinned map has room for."""
    return int(path.name.split("-")[2])


def _read(file: Path) -> Layouts:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Layouts)
    except FileNotFoundError:
        return {}
    except msgspec.DecodeError as error:
        raise HopliteError(
            f"the layouts of the pinned maps cannot be read: {error}",
            where=str(file),
            fix="remove the file; connections that are open now will not be counted to their end",
        ) from error
