"""Real maps of an earlier release's layout, and what becomes of what they hold."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import bpf
from meshapi.errors import HopliteError
from nodeagent import layout
from nodeagent.datapath.attach import Datapath
from nodeagent.datapath.inheritance import Inheritance, encode_layouts
from nodeagent.datapath.libbpf import KernelMap
from nodeagent.layout import DatagramFlow, Record

pytestmark = pytest.mark.root

# An earlier release knew a flow's beginning, a field that is gone since, and its identities.
OLD_VALUE = Record("=QQII", ("started", "mood", "source", "destination"))
OLD_PIN = "sockets@8-24-16-0ld"
COOKIE = Record("=Q", ("cookie",))

# An earlier release's alerts, as this one's, told who was to blame as well.
ALERT = Record("=QQ", ("until", "culprit"))
INDEX = Record("=I", ("index",))

_MAKE = """
import os, sys
os.environ["BCC_KERNEL_SOURCE"] = sys.argv[1]
import bcc
path, kind, key, value, entries = sys.argv[2:]
bcc.BPF(text=f'struct v {{ char bytes[{value}]; }};\\n'
    f'BPF_TABLE_PINNED("{kind}", {key}, struct v, old, {entries}, "{path}");\\n')
"""


def make(path: Path, kind: str, key: str, value: int, entries: int) -> None:
    """Pin an empty map."""
    folder = str(Path(bpf.__file__).parent)
    words = [folder, str(path), kind, key, str(value), str(entries)]
    subprocess.run([sys.executable, "-c", _MAKE, *words], check=True)


@pytest.fixture
def old(datapath: Datapath) -> KernelMap:
    path = datapath.map_folder / OLD_PIN
    make(path, "hash", "u64", 24, 16)
    return KernelMap(path, 8, 24)


@pytest.fixture
def inheritance(datapath: Datapath, old: KernelMap, tmp_path: Path) -> Callable[[], Inheritance]:
    file = tmp_path / "layouts.json"
    file.write_bytes(encode_layouts({OLD_PIN: (COOKIE, OLD_VALUE)}))
    return lambda: Inheritance(datapath.map_folder, file, datapath.specs)


@pytest.fixture(autouse=True)
def emptied(datapath: Datapath) -> None:
    sockets = datapath.open_map("sockets")
    for key in list(dict(sockets.items())):
        sockets.delete(key)
    (datapath.map_folder / OLD_PIN).unlink(missing_ok=True)


def cookie(number: int) -> bytes:
    return number.to_bytes(8, "little")


def was(started: int, source: int) -> bytes:
    return OLD_VALUE.pack({"started": started, "mood": 9, "source": source, "destination": 5})


def now(datapath: Datapath, number: int) -> DatagramFlow | None:
    value = datapath.open_map("sockets").get(cookie(number))
    return None if value is None else DatagramFlow(*layout.FLOW.unpack(value))


def test_fields_go_by_name_and_new_ones_begin_as_zero(
    datapath: Datapath, old: KernelMap, inheritance: Callable[[], Inheritance]
) -> None:
    old.put(cookie(1), was(111, 7))
    inheritance().begin()
    flow = now(datapath, 1)
    assert flow is not None
    assert (flow.started, flow.source, flow.destination) == (111, 7, 5)
    assert flow._replace(started=0, source=0, destination=0) == DatagramFlow(
        *layout.FLOW.unpack(bytes(layout.FLOW.size))
    )


def test_what_came_and_went_while_the_programs_were_exchanged(
    datapath: Datapath, old: KernelMap, inheritance: Callable[[], Inheritance]
) -> None:
    for number in (1, 2, 3):
        old.put(cookie(number), was(number, 7))
    both = inheritance()
    both.begin()
    old.delete(cookie(2))  # closed under the old programs
    old.put(cookie(4), was(4, 7))  # opened under them
    sockets = datapath.open_map("sockets")
    sockets.delete(cookie(3))  # closed under the new ones
    both.finish()
    assert {int.from_bytes(key, "little") for key, _ in sockets.items()} == {1, 4}


def test_what_the_new_programs_know_is_never_overwritten(
    datapath: Datapath, old: KernelMap, inheritance: Callable[[], Inheritance]
) -> None:
    """As after a crash in between: the second start finds entries that have lived on."""
    old.put(cookie(1), was(111, 7))
    value = layout.FLOW.pack(*now_zero()._replace(started=222))
    datapath.open_map("sockets").put(cookie(1), value)
    both = inheritance()
    both.begin()
    both.finish()
    flow = now(datapath, 1)
    assert flow is not None
    assert flow.started == 222


def test_the_next_release_finds_this_ones_layouts(
    datapath: Datapath, inheritance: Callable[[], Inheritance], tmp_path: Path
) -> None:
    inheritance().begin()
    known = Inheritance(datapath.map_folder, tmp_path / "layouts.json", datapath.specs).known
    pins = {spec.pin: spec.record for spec in datapath.specs if spec.record is not None}
    assert {name: known[name] for name in pins} == pins
    assert OLD_PIN in known
    (datapath.map_folder / OLD_PIN).unlink()
    inheritance().begin()
    known = Inheritance(datapath.map_folder, tmp_path / "layouts.json", datapath.specs).known
    assert OLD_PIN not in known


def test_a_full_new_map_takes_what_it_can_and_says_so(
    datapath: Datapath,
    old: KernelMap,
    inheritance: Callable[[], Inheritance],
    caplog: pytest.LogCaptureFixture,
) -> None:
    sockets = datapath.open_map("sockets")
    room = next(s.entries for s in datapath.specs if s.name == "sockets")
    value = bytes(layout.FLOW.size)
    sockets.put_many([(cookie(n), value) for n in range(1000, 1000 + room)])
    old.put(cookie(1), was(1, 7))
    left = inheritance()
    left.begin()
    left.finish()
    assert now(datapath, 1) is None
    assert len(dict(sockets.items())) == room
    assert "too small" in caplog.text


@pytest.mark.parametrize(("length", "heir"), [(layout.ALERTS, 7_000), (16, 0)])
def test_an_array_is_taken_over_if_its_places_mean_the_same(
    datapath: Datapath, tmp_path: Path, length: int, heir: int
) -> None:
    pin = f"alerts@4-16-{length}-0ld"
    make(datapath.map_folder / pin, "array", "u32", 16, length)
    before = KernelMap(datapath.map_folder / pin, 4, 16)
    alerts = datapath.open_map("alerts")
    third, fourth = (number.to_bytes(4, "little") for number in (3, 4))
    alerts.put(third, bytes(8))
    alerts.put(fourth, (9_000).to_bytes(8, "little"))  # it has lived on already
    for place in (third, fourth):
        before.put(place, ALERT.pack({"until": 7_000, "culprit": 5}))
    file = tmp_path / "layouts.json"
    file.write_bytes(encode_layouts({pin: (INDEX, ALERT)}))
    both = Inheritance(datapath.map_folder, file, datapath.specs)
    both.begin()
    both.finish()
    assert alerts.get(third) == heir.to_bytes(8, "little")
    assert alerts.get(fourth) == (9_000).to_bytes(8, "little")
    before.close()
    (datapath.map_folder / pin).unlink()


def test_a_file_that_is_not_layouts_is_refused(datapath: Datapath, tmp_path: Path) -> None:
    file = tmp_path / "layouts.json"
    file.write_text('{"sockets@1": "no"}')
    with pytest.raises(HopliteError, match="cannot be read") as refusal:
        Inheritance(datapath.map_folder, file, datapath.specs)
    assert refusal.value.where == str(file)


def now_zero() -> DatagramFlow:
    return DatagramFlow(*layout.FLOW.unpack(bytes(layout.FLOW.size)))


def test_a_record_packs_what_it_knows() -> None:
    record = Record("=IH2x", ("wide", "narrow"))
    assert record.size == 8
    assert record.unpack(record.pack({"narrow": 3, "other": 4})) == {"wide": 0, "narrow": 3}
