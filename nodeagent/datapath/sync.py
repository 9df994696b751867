"""The only writer of the kernel maps that hold desired state."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from meshapi.errors import HopliteError
from nodeagent import layout
from nodeagent.datapath.attach import Datapath
from nodeagent.datapath.libbpf import KernelMap
from nodeagent.desired.build import MAPS, Desired, Table
from nodeagent.desired.plan import Entries, plan

_SETTINGS_KEY = bytes(4)
_READ_BACK_EACH = 1000  # up to so many changed keys are read one by one, more by a walk


@dataclass(frozen=True)
class Change:
    """What one ``apply`` did."""

    written: int = 0
    removed: int = 0
    seconds: float = 0.0


class Writer:
    """Makes the kernel maps equal to desired state and reads them back."""

    def __init__(self, datapath: Datapath) -> None:
        self._maps: dict[str, KernelMap] = {name: datapath.open_map(name) for name in MAPS}
        self._settings = datapath.open_map("settings")
        self._actual: dict[str, Table] = {
            name: dict(kernel_map.items()) for name, kernel_map in self._maps.items()
        }
        held = layout.SETTINGS.unpack(self._settings.get(_SETTINGS_KEY) or b"")
        self._lengths: int = held[5]
        self._epoch: int = held[6]

    @property
    def sizes(self) -> dict[str, int]:
        """How many entries each map holds."""
        return {name: len(table) for name, table in self._actual.items()}

    def apply(self, desired: Desired) -> Change:
        """Carry out the plan and read back what was written."""
        started = time.monotonic()
        steps = plan(self._actual, desired.tables)
        # Prefix lengths that entries are about to use must be looked up before they are written.
        self._put_settings(desired, self._lengths | desired.settings.port_lengths)
        for name, entries in steps.writes:
            self._maps[name].put_many(entries)
            self._actual[name].update(entries)
        for name, keys in steps.removals:
            for key in keys:
                self._maps[name].delete(key)
                del self._actual[name][key]
        if steps.written or steps.removed:
            self._epoch = (self._epoch + 1) & 0xFFFFFFFF
        self._lengths = desired.settings.port_lengths
        self._put_settings(desired, self._lengths)
        for name, entries in steps.writes:
            self._read_back(name, entries)
        return Change(steps.written, steps.removed, time.monotonic() - started)

    def _put_settings(self, desired: Desired, lengths: int) -> None:
        value = desired.settings.pack(self._epoch, lengths)
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
