"""Real kernel maps through the agent's typed layer, and the writer on top of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshapi.errors import HopliteError
from meshapi.manifests import parse
from meshapi.resources import key_of
from meshapi.watch import Snapshot
from nodeagent import layout
from nodeagent.datapath.attach import Datapath
from nodeagent.datapath.libbpf import KernelError, KernelMap
from nodeagent.datapath.sync import Change, Writer
from nodeagent.desired.compiler import Compiler
from nodeagent.desired.plan import Delta
from nodeagent.desired.units import Facts
from nodeagent.layout import MapSpec, address_bytes
from nodeagent.state import Changes, build

pytestmark = pytest.mark.root

PEER = layout.PEER.pack(7, 8, 0, 9)

MESH = """
{apiVersion: mesh.hoplite.io/v1alpha1, kind: MeshNode, metadata: {name: n1}}
---
apiVersion: mesh.hoplite.io/v1alpha1
kind: Workload
metadata: {name: a, namespace: shop, labels: {app: a}}
spec: {nodeName: n1, cgroup: pods/a, addresses: [10.244.1.1]}
status: {identity: 256, ready: true}
---
apiVersion: v1
kind: Service
metadata: {name: a, namespace: shop}
spec: {selector: {app: a}, clusterIPs: [10.96.0.5], ports: [{port: 80}]}
"""


def compiled(text: str = MESH) -> Compiler:
    objects = {key_of(o): o for o in (m.resource for m in parse(text, "mesh"))}
    facts = Facts(cgroups={("shop", "a"): (77, 2)}, proxy4="169.254.77.1", proxy6="fd00::1")
    compiler = Compiler("n1")
    compiler.update(build("n1", Snapshot(1, objects)), Changes({}, objects), facts)
    return compiler


def test_put_get_pop_delete(datapath: Datapath) -> None:
    peers = datapath.open_map("peers")
    key = address_bytes("192.0.2.1")
    assert peers.get(key) is None
    peers.put(key, PEER)
    assert peers.get(key) == PEER
    assert peers.pop(key) == PEER
    assert peers.pop(key) is None
    peers.delete(key)


def test_batches_hold_every_entry_and_walks_find_them(datapath: Datapath) -> None:
    peers = datapath.open_map("peers")
    entries = [(address_bytes(f"192.0.{i // 250}.{i % 250}"), PEER) for i in range(1000)]
    peers.put_many(entries)
    assert dict(peers.items()) == dict(entries)
    for key, _ in entries:
        peers.delete(key)
    assert not dict(peers.items())


def test_a_trie_is_walked_one_by_one(datapath: Datapath) -> None:
    blocks = datapath.open_map("blocks")
    key = layout.BLOCK_KEY.pack(96 + 8, address_bytes("10.0.0.0"))
    blocks.put(key, (5).to_bytes(4, "little"))
    assert dict(blocks.items()) == {key: (5).to_bytes(4, "little")}
    blocks.delete(key)


def test_a_full_map_is_refused_and_says_which_setting_to_raise(datapath: Datapath) -> None:
    peers = datapath.open_map("peers")
    entries = [
        (address_bytes(f"10.{i // 65536}.{i // 256 % 256}.{i % 256}"), PEER) for i in range(1100)
    ]
    with pytest.raises(KernelError, match=r"mapSizes\.peers"):
        peers.put_many(entries)
    for key in list(dict(peers.items())):
        peers.delete(key)


def test_a_pinned_map_of_another_shape_is_refused(datapath: Datapath) -> None:
    spec = next(s for s in datapath.specs if s.name == "peers")
    path = datapath.map_folder / f"peers@{spec.version}"
    with pytest.raises(HopliteError, match="remove the pin directory"):
        KernelMap(path, 16, 99)


def equal(writer: Writer, text: str = MESH) -> Change:
    compiler = compiled(text)
    return writer.make_equal(compiler.tables, compiler.settings)


def test_the_writer_makes_maps_equal_and_a_second_one_finds_them_so(datapath: Datapath) -> None:
    writer = Writer(datapath)
    assert equal(writer).written > 0
    for name, table in compiled().tables.items():
        assert dict(datapath.open_map(name).items()) == table
    assert equal(writer).written == 0
    again = equal(Writer(datapath))
    assert (again.written, again.removed) == (0, 0)


def test_the_epoch_moves_with_every_change_and_only_then(datapath: Datapath) -> None:
    def epoch() -> int:
        held = layout.SETTINGS.unpack(datapath.open_map("settings").get(bytes(4)) or b"")
        return held[layout.SETTINGS_EPOCH]

    writer = Writer(datapath)
    equal(writer)
    before = epoch()
    equal(writer)
    assert epoch() == before
    equal(writer, MESH.replace("10.244.1.1", "10.244.1.9"))
    assert epoch() == before + 1


def test_a_change_that_was_broken_off_moves_the_epoch_when_it_is_found_done(
    datapath: Datapath,
) -> None:
    """An agent that is killed before it has moved the epoch leaves that to the next one."""

    def epoch() -> int:
        held = layout.SETTINGS.unpack(datapath.open_map("settings").get(bytes(4)) or b"")
        return held[layout.SETTINGS_EPOCH]

    class Dying(Writer):
        def _remove(self, removals: dict[str, set[bytes]]) -> None:
            super()._remove(removals)
            raise KeyboardInterrupt

    equal(Writer(datapath))
    before = epoch()
    dying = Dying(datapath)
    with pytest.raises(KeyboardInterrupt):
        equal(dying, MESH.replace("10.244.1.1", "10.244.1.9"))
    assert epoch() == before
    successor = Writer(datapath)
    assert equal(successor, MESH.replace("10.244.1.1", "10.244.1.9")).written == 0
    assert epoch() == before + 1
    equal(successor, MESH.replace("10.244.1.1", "10.244.1.9"))
    assert epoch() == before + 1


def test_what_a_packet_may_still_refer_to_goes_later(datapath: Datapath) -> None:
    writer = Writer(datapath)
    equal(writer)
    slots = datapath.open_map("slots")
    old = dict(slots.items())
    delta = Delta(settings=compiled().settings)
    delta.put("slots", layout.SLOT_KEY.pack(1, 2, 3), bytes(layout.SLOT.size))
    for key in old:
        delta.drop("slots", key, late=True)
    writer.apply(delta)
    assert old.keys() < dict(slots.items()).keys()
    assert writer.unsettled
    writer.settle()
    assert not old.keys() & dict(slots.items()).keys()
    assert not writer.unsettled


def test_what_comes_back_before_it_is_removed_stays(datapath: Datapath) -> None:
    writer = Writer(datapath)
    key, value = layout.SLOT_KEY.pack(1, 2, 3), bytes(layout.SLOT.size)
    for late in (False, True, False):
        delta = Delta(settings=compiled().settings)
        if late:
            delta.drop("slots", key, late=True)
        else:
            delta.put("slots", key, value)
        writer.apply(delta)
    writer.settle()
    assert datapath.open_map("slots").get(key) == value
    equal(writer)


def test_somebody_else_writing_is_noticed(datapath: Datapath) -> None:
    """Read-back: what is acknowledged is what the kernel holds."""

    class Forgetful(KernelMap):
        def put_many(self, entries):
            return None

    writer = Writer(datapath)
    equal(writer)
    spec = next(s for s in datapath.specs if s.name == "peers")
    path = datapath.map_folder / f"peers@{spec.version}"
    writer._maps["peers"] = Forgetful(path, spec.key, spec.value)
    with pytest.raises(HopliteError, match="do not read back"):
        equal(writer, MESH.replace("10.244.1.1", "10.244.1.7"))


def test_every_map_is_there_with_its_size(datapath: Datapath) -> None:
    names = {path.name for path in datapath.map_folder.iterdir()}
    assert names == {spec.pin for spec in datapath.specs}


def test_a_changed_size_is_another_pin(pins: Path, datapath: Datapath) -> None:
    assert (
        MapSpec("peers", "hash", 16, 12, 5).version != MapSpec("peers", "hash", 16, 12, 6).version
    )
