"""Makes the wanted programs the ones that run: load if needed, pin, attach, swap in place.

Pins below the agent's pin directory:
``maps/<name>@<layout>`` · ``programs-<version>/<program>`` · ``links/<program>``.
Links survive the agent; a new version replaces their programs without a gap.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from meshapi.errors import HopliteError
from nodeagent.datapath import features, libbpf
from nodeagent.datapath.loader import LoadReply, LoadRequest
from nodeagent.datapath.programs import (
    PROGRAMS,
    Program,
    compile_text,
    source_folder,
    version,
)
from nodeagent.layout import CALLS, MapSpec

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Attached:
    """What came of it: which version runs, whether the compiler was needed, what the kernel has."""

    version: str
    compiled: bool
    features: dict[str, str]


class Datapath:
    """The pinned programs, maps and links of one node."""

    def __init__(self, pins: Path, specs: tuple[MapSpec, ...]) -> None:
        self.pins = pins
        self.specs = specs
        self._common = specs
        self._maps: dict[str, libbpf.KernelMap] = {}

    @property
    def map_folder(self) -> Path:
        return self.pins / "maps"

    def load(self) -> Attached:
        """Have every wanted program pinned, compiling only if this version is not there yet."""
        present = features.probe()
        features.check(present)
        self.map_folder.mkdir(parents=True, exist_ok=True)
        folder = source_folder()
        wanted = version(compile_text(folder, self._common, self.map_folder, present))
        self.specs = tuple(
            replace(spec, release=wanted) if spec.kind == "prog" else spec for spec in self._common
        )
        programs = self.pins / f"programs-{wanted}"
        compiled = not programs.exists()
        if compiled:
            text = compile_text(folder, self.specs, self.map_folder, present)
            self._compile(text, folder, programs)
        return Attached(wanted, compiled, features.describe(present))

    def open_map(self, name: str) -> libbpf.KernelMap:
        """The pinned map of that name (opened once)."""
        if name not in self._maps:
            spec = next(s for s in self.specs if s.name == name)
            path = self.map_folder / spec.pin
            self._maps[name] = libbpf.KernelMap(path, spec.key, spec.value)
        return self._maps[name]

    def attach(self, attached: Attached, target: str, cgroup: Path) -> None:
        """Attach every program of a target (node or proxy) to its cgroup, or swap it in place."""
        (self.pins / "links").mkdir(exist_ok=True)
        folder = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for program in PROGRAMS:
                if program.target == target:
                    self._attach_one(attached.version, program, folder)
        finally:
            os.close(folder)

    def connect_calls(self, attached: Attached) -> None:
        """Have programs that others end in be this version's; before these others are attached."""
        calls = self.open_map("calls")
        for index, name in enumerate(CALLS):
            loaded = libbpf.obj_get(self.pins / f"programs-{attached.version}" / name)
            try:
                calls.put(index.to_bytes(4, "little"), loaded.to_bytes(4, "little"))
            finally:
                os.close(loaded)

    def forget_old(self, attached: Attached) -> None:
        """Unpin program sets and maps that the running version does not use."""
        wanted_maps = {s.pin for s in self.specs}
        for path in self.pins.glob("programs-*"):
            if path.name != f"programs-{attached.version}":
                shutil.rmtree(path)
        for path in self.map_folder.iterdir():
            if path.name not in wanted_maps:
                path.unlink()

    def remove(self) -> None:
        """Detach everything and leave no pin behind."""
        if self.pins.exists():
            shutil.rmtree(self.pins)

    def _compile(self, text: str, folder: Path, programs: Path) -> None:
        unfinished = self.pins / f"loading-{programs.name}"  # bpffs allows no dots in names
        if unfinished.exists():
            shutil.rmtree(unfinished)
        request = LoadRequest(
            text=text,
            headers=str(folder),
            programs=tuple((p.name, p.type, libbpf.expected_attach(p.attach)) for p in PROGRAMS),
            pin_to=str(unfinished),
        )
        run = subprocess.run(
            [sys.executable, "-m", "nodeagent.datapath.loader"],
            input=msgspec.json.encode(request),
            capture_output=True,
            check=False,
        )
        try:
            reply = msgspec.json.decode(run.stdout, type=LoadReply)
        except msgspec.DecodeError as error:
            detail = run.stderr.decode(errors="replace").strip().splitlines()
            raise HopliteError(
                f"the BPF loader ended with {run.returncode}: {detail[-1] if detail else ''}",
                fix="see the agent's log",
            ) from error
        if reply.error:
            _log.error("BPF loader failed", extra={"error": reply.error, "log": reply.log})
            raise HopliteError(
                reply.error,
                where="BPF loader",
                fix="see the agent's log for the compiler's or verifier's words",
            )
        unfinished.rename(programs)
        _log.info("datapath compiled", extra={"seconds": round(reply.compile_seconds, 2)})

    def _attach_one(self, wanted: str, program: Program, cgroup: int) -> None:
        loaded = libbpf.obj_get(self.pins / f"programs-{wanted}" / program.name)
        path = self.pins / "links" / program.name
        try:
            if path.exists() and self._swap(path, loaded, os.fstat(cgroup).st_ino):
                return
            link = libbpf.link_create(loaded, cgroup, program.attach)
            try:
                libbpf.obj_pin(link, path)
            finally:
                os.close(link)
        finally:
            os.close(loaded)

    def _swap(self, path: Path, loaded: int, cgroup: int) -> bool:
        """Put the program into the pinned link; False if the link's cgroup is another or gone."""
        link = libbpf.obj_get(path)
        try:
            current, target = libbpf.link_target(link)
            if target != cgroup:
                path.unlink()
                return False
            if current != libbpf.program_id(loaded):
                libbpf.link_update(link, loaded)
            return True
        finally:
            os.close(link)
