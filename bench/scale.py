"""10,000 services with 10 backends each: time to put them into the kernel, memory, and speed.

The first part compiles such a mesh as the agent does and writes it into kernel maps of its own. The
second measures connections in a small lab, with the kernel maps as they are and with all that in
them besides, in turn.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from bench import bigstate, direct_path
from bench.direct_path import CLIENT, CpuPerOperation
from bench.labs import virtual_address
from bench.pairs import compare
from bench.table import Row, ratio_row
from lab import api, bpffs, names
from meshapi.resources import Key, Resource, key_of
from meshapi.watch import Snapshot
from nodeagent.config import DEFAULT_SIZES
from nodeagent.datapath.attach import Datapath
from nodeagent.datapath.libbpf import KernelMap
from nodeagent.datapath.sync import Writer
from nodeagent.desired.compiler import Compiler
from nodeagent.desired.plan import MAPS, Table
from nodeagent.desired.units import Facts
from nodeagent.layout import map_specs
from nodeagent.state import advance, build, difference

NAME = "bench-scale"
PAIRS = 11
TIMES = 7


def run() -> tuple[str, list[Row]]:
    """Both parts; nothing of them stays."""
    bpffs.ensure()
    datapath = Datapath(Path(f"/sys/fs/bpf/hoplite-bench-{os.getpid()}"), map_specs(DEFAULT_SIZES))
    try:
        datapath.load()
        node = _Node(datapath)
        rows = node.measure()
    finally:
        datapath.remove()
        bpffs.release()
    lab = api.start(direct_path.LAB + direct_path.MESH, name=NAME, source="bench")
    try:
        rows += _traffic(lab, node.tables)
    finally:
        api.stop(NAME)
    count = f"{bigstate.SERVICES:,} services with {bigstate.BACKENDS} backends each"
    return f"Scale: {count}", rows


class _Node:
    """What the agent of a node does with the big mesh, without the agent around it."""

    def __init__(self, datapath: Datapath) -> None:
        self._datapath = datapath
        self._objects: dict[Key, Resource] = bigstate.objects()
        self._compiler = Compiler(bigstate.NODE)
        self._writer = Writer(datapath)
        self._facts = Facts()

    @property
    def tables(self) -> dict[str, Table]:
        return self._compiler.tables

    def measure(self) -> list[Row]:
        gc.collect()
        gc.freeze()
        started = time.monotonic()
        state = build(bigstate.NODE, Snapshot(1, self._objects))
        self._facts = Facts(
            cgroups={
                (w.metadata.namespace, w.metadata.name): (1 << 40 | i, 3)
                for i, w in enumerate(state.local)
            }
        )
        self._compiler.update(state, difference({}, Snapshot(1, self._objects)), self._facts)
        compiled = time.monotonic() - started
        entries = sum(len(table) for table in self.tables.values())
        started = time.monotonic()
        self._writer.make_equal(self.tables, self._compiler.settings)
        synced = time.monotonic() - started
        memory = sum(_memory(self._datapath.open_map(name)) for name in MAPS) / 2**20
        return [
            Row(
                "compile everything", f"{compiled:.2f} s", detail=f"{len(self._objects):,} objects"
            ),
            Row(
                "write everything and read it back",
                f"{synced:.2f} s",
                "≤ 2 s",
                synced <= 2,
                f"{entries:,} entries, {len(self.tables['policy']):,} of them policy",
            ),
            Row("kernel memory of that state", f"{memory:.1f} MB", "≤ 64 MB", memory <= 64),
            *self._changes(),
        ]

    def _changes(self) -> list[Row]:
        """Single changes, from what the agent hears to the kernel maps read back."""
        rows = []
        for what, makes in (
            ("a backend is not ready", lambda i: bigstate.workload(5000 + i, ready=False)),
            ("a new workload", lambda i: bigstate.workload(10**6 + i)),
            ("a new service", lambda i: bigstate.service(bigstate.SERVICES + i)),
            ("a policy's port", lambda i: bigstate.policy(i, port=9090)),
        ):
            times = [self._change(makes(i)) * 1000 for i in range(TIMES)]
            median = statistics.median(times)
            detail = f"{min(times):.1f} to {max(times):.1f}, {TIMES} changes"
            rows.append(
                Row(f"a change: {what}", f"{median:.1f} ms", "≤ 20 ms", median <= 20, detail)
            )
        return rows

    def _change(self, resource: Resource) -> float:
        key = key_of(resource)
        state = self._compiler.state
        snapshot = Snapshot(
            state.revision + 1, {**self._objects, key: resource}, changed=frozenset({key})
        )
        started = time.monotonic()
        changes = difference(self._objects, snapshot)
        deltas = self._compiler.update(advance(state, snapshot, changes), changes, self._facts)
        for delta in deltas:
            self._writer.apply(delta)
        took = time.monotonic() - started
        self._objects = dict(snapshot.objects)
        self._writer.settle()
        settled = self._compiler.settle()
        if settled is not None:
            self._writer.apply(settled)
        return took


def _memory(kernel_map: KernelMap) -> int:
    """Bytes that the kernel accounts a map (its own figure, in the file descriptor's info)."""
    for line in Path(f"/proc/self/fdinfo/{kernel_map.fd}").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "memlock":
            return int(value)
    return 0


def _traffic(lab: api.Lab, tables: dict[str, Table]) -> list[Row]:
    pins = names.LabNames(NAME).pins
    crowds = [
        _Crowd(Datapath(pins / node.name, map_specs(DEFAULT_SIZES)), tables)
        for node in lab.record.plan.nodes
    ]

    def empty() -> None:
        for crowd in crowds:
            crowd.leave()

    def full() -> None:
        for crowd in crowds:
            crowd.come()

    rows = []
    for where, node in (("same node", "node1"), ("across nodes", "node2")):
        server = f"{node}/bench/server"
        address = virtual_address(lab, "bench", "near" if node == "node1" else "far")
        segment: Callable[[api.Lab, str], float] = direct_path.connections
        bench = CpuPerOperation(lab, (CLIENT, server), segment)
        ratio = compare(bench.at(address, empty), bench.at(address, full), PAIRS)
        rows.append(ratio_row(f"connect + close, against 10 of each, {where}", ratio, 1.03, "µs"))
    return rows


class _Crowd:
    """The big mesh's entries among those of a small lab's node; what is there already stays."""

    def __init__(self, datapath: Datapath, tables: dict[str, Table]) -> None:
        self._datapath = datapath
        self._tables = tables
        self._here: dict[str, list[bytes]] = {}

    def come(self) -> None:
        for name, table in self._tables.items():
            held = self._datapath.open_map(name)
            self._here[name] = [k for k, value in table.items() if held.insert(k, value)]

    def leave(self) -> None:
        for name, keys in self._here.items():
            held = self._datapath.open_map(name)
            for key in keys:
                held.delete(key)
        self._here = {}
