"""The only writer of the kernel maps that hold desired state."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from meshapi.errors import HopliteError
from nodeagent import layout
from nodeagent.datapath.attach import Datapath
from nodeagent.datapath.libbpf import KernelMap
from nodeagent.desired.local import Settings
from nodeagent.desired.plan import (
    MAPS,
    Delta,
    Entries,
    Table,
    difference,
    ordered_removals,
    ordered_writes,
)

_SETTINGS_KEY = bytes(4)
_READ_BACK_EACH = 1000  # up to so many changed keys are read one by one, more by a walk


@dataclass(frozen=True)
class Change:
    """What was done."""

    written: int = 0
    removed: int = 0
    seconds: float = 0.0

    def __add__(self, other: Change) -> Change:
        return Change(
            self.written + other.written,
            self.removed + other.removed,
            self.seconds + other.seconds,
        )


class Writer:
    """Makes the kernel maps equal to desired state and reads them back."""

    def __init__(self, datapath: Datapath) -> None:
        self._maps: dict[str, KernelMap] = {name: datapath.open_map(name) for name in MAPS}
        self._settings = datapath.open_map("settings")
        self._held: Settings | None = None
        self._unfinished = True  # a predecessor may have been killed in the middle of a change
        held = layout.SETTINGS.unpack(self._settings.get(_SETTINGS_KEY) or b"")
        self._epoch: int = held[layout.SETTINGS_EPOCH]
        self._seed: int = held[layout.SETTINGS_SEED] or secrets.randbits(32) | 1
        self._late: dict[str, set[bytes]] = {name: set() for name in MAPS}

    def make_equal(self, tables: dict[str, Table], settings: Settings) -> Change:
        """Whatever the maps hold: after this they hold ``tables``."""
        actual = {name: dict(kernel_map.items()) for name, kernel_map in self._maps.items()}
        self._late = {name: set() for name in MAPS}
        delta = difference(actual, tables)
        delta.settings = settings
        return self.apply(delta)

    def apply(self, delta: Delta) -> Change:
        """Carry out a change and read back what was written."""
        started = time.monotonic()
        settings = delta.settings
        if settings is None:
            raise ValueError("the delta is not complete")
        steps = ordered_writes(delta)
        changed = bool(delta.written or delta.removed or self._unfinished)
        self._unfinished = True
        self._put_settings(self._between(settings))
        for name, entries in steps:
            self._maps[name].put_many(entries)
            self._late[name] -= delta.writes[name].keys()
        self._remove(delta.removals)
        if changed:
            self._epoch = (self._epoch + 1) & 0xFFFFFFFF
        for name, keys in delta.late.items():
            self._late[name] |= keys
        self._put_settings(settings)
        self._unfinished = False
        self._held = settings
        for name, entries in steps:
            self._read_back(name, entries)
        return Change(delta.written, delta.removed, time.monotonic() - started)

    @property
    def unsettled(self) -> bool:
        """Whether something waits to be removed."""
        return any(self._late.values())

    def settle(self) -> None:
        """Remove what no packet can have a reference to any more."""
        late, self._late = self._late, {name: set() for name in MAPS}
        self._remove(late)

    def _remove(self, removals: dict[str, set[bytes]]) -> None:
        for name, keys in ordered_removals(removals):
            for key in keys:
                self._maps[name].delete(key)

    def _between(self, settings: Settings) -> Settings:
        """Settings under which entries of before and of after are both right."""
        held = self._held
        if held is None:
            return settings
        return replace(
            settings,
            flags=settings.flags | held.flags,
            node_class4=held.node_class4,
            node_class6=held.node_class6,
            levels=tuple(dict.fromkeys((*settings.levels, *held.levels))),
        )

    def _put_settings(self, settings: Settings) -> None:
        value = settings.pack(self._epoch, self._seed)
        if self._settings.get(_SETTINGS_KEY) != value:
            self._settings.put(_SETTINGS_KEY, value)

    def _read_back(self, name: str, entries: Entries) -> None:
        kernel_map = self._maps[name]
        found: Iterable[bytes | None]
        if len(entries) <= _READ_BACK_EACH:
            found = (kernel_map.get(key) for key, _ in entries)
        else:
            held = dict(kernel_map.items())
            found = (held.get(key) for key, _ in entries)
        wrong = [k for (k, value), got in zip(entries, found, strict=True) if got != value]
        if wrong:
            raise HopliteError(
                f"{len(wrong)} entries of the kernel map {name} do not read back as written",
                where=wrong[0].hex(),
                fix="something else writes to the agent's maps; find and stop it",
            )
