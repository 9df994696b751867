"""Programs at interfaces: at the host's ends of pods' (``veth``), at the node's own (``uplink``).

As tcx links, which are pinned at ``links/<program>@<index>`` and taken over like the cgroups', or
where the kernel has none, as clsact filters. Both outlive the agent and are replaced in place.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from meshapi.errors import HopliteError
from nodeagent import netlink
from nodeagent.datapath import clsact, libbpf
from nodeagent.datapath.attach import Attached, Datapath
from nodeagent.datapath.libbpf import KernelError
from nodeagent.datapath.programs import PROGRAMS, Program

_log = logging.getLogger(__name__)

Target = Literal["veth", "uplink"]
How = Literal["tcx", "clsact"]


class InterfaceHooks:
    """Keeps the programs where they are wanted, and nowhere else."""

    def __init__(self, datapath: Datapath, attached: Attached, wish: str = "auto") -> None:
        self._links = datapath.pins / "links"
        self._programs = datapath.pins / f"programs-{attached.version}"
        self.how: How = _choose(wish, has_tcx=attached.features["tcx"] == "yes")
        self._made: dict[int, Target] | None = None  # not yet known what there is

    def make(self, wanted: Mapping[int, Target]) -> None:
        """Have the programs at these interfaces, and at no others."""
        if self._made == wanted:
            return
        self._sweep(wanted)
        made: dict[int, Target] = {}
        try:
            for index, target in wanted.items():
                if self._attach(index, target):
                    made[index] = target
        except (KernelError, OSError) as error:
            self._made = None
            raise HopliteError(
                f"cannot attach to interface {index}: {error}",
                fix="look which other programs are there (bpftool net); the setting "
                "interfaceHooks: none does without",
            ) from error
        _log.info("interfaces", extra={"hooks": self.how, "interfaces": len(made)})
        self._made = made

    def _attach(self, index: int, target: Target) -> bool:
        """False if the interface has gone."""
        try:
            for program in PROGRAMS:
                if program.target == target:
                    with _opened(self._programs / program.name) as loaded:
                        if self.how == "tcx":
                            _attach_link(self._links, index, program, loaded)
                        else:
                            _attach_filter(index, program, loaded)
        except (KernelError, OSError) as error:
            if error.errno == errno.ENODEV:
                return False
            raise
        return True

    def _sweep(self, wanted: Mapping[int, Target]) -> None:
        """Take away what is not wanted, or was attached in the other way."""
        as_links = wanted if self.how == "tcx" else {}
        for path, name, index in _pinned(self._links):
            if _target(name) != as_links.get(index):
                path.unlink()
        as_filters = wanted if self.how == "clsact" else {}
        if self._made is None:  # an earlier agent may have left filters anywhere
            for link in netlink.links():
                there = {_target(name) for name in clsact.attached(link.index)}
                if there and there != {as_filters.get(link.index)}:
                    clsact.detach(link.index)
        elif self.how == "clsact":
            for index, target in self._made.items():
                if target != wanted.get(index):
                    clsact.detach(index)


def remove(pins: Path) -> None:
    """Take every program off the interfaces of this namespace."""
    for path, _, _ in _pinned(pins / "links"):
        path.unlink()
    for link in netlink.links():
        clsact.detach(link.index)


def _choose(wish: str, *, has_tcx: bool) -> How:
    """What the kernel has, unless one way is wished for."""
    if wish == "tcx" and not has_tcx:
        raise HopliteError(
            "this kernel has no tcx links",
            where="$.interfaceHooks",
            fix="use auto or clsact, or boot Linux 6.6 or newer",
        )
    return "clsact" if wish == "clsact" or not has_tcx else "tcx"


def _target(program: str) -> str | None:
    return next((p.target for p in PROGRAMS if p.name == program), None)


def _pinned(links: Path) -> Iterator[tuple[Path, str, int]]:
    """The links at interfaces: path, program, index."""
    for path in links.glob("*@*") if links.exists() else ():
        name, _, index = path.name.partition("@")
        yield path, name, int(index)


def _attach_link(links: Path, index: int, program: Program, loaded: int) -> None:
    links.mkdir(exist_ok=True)
    path = links / f"{program.name}@{index}"
    if path.exists():
        with _opened(path) as link:
            number, there = libbpf.link_interface(link)
            if there == index:
                if number != libbpf.program_id(loaded):
                    libbpf.link_update(link, loaded)
                return
        path.unlink()  # its interface went, and this one got its number
    link = libbpf.link_create(loaded, index, program.attach, libbpf.FIRST)
    try:
        libbpf.obj_pin(link, path)
    finally:
        os.close(link)


def _attach_filter(index: int, program: Program, loaded: int) -> None:
    if clsact.attached(index).get(program.name) != libbpf.program_id(loaded):
        clsact.attach(index, program.attach, loaded, program.name)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = libbpf.obj_get(path)
    try:
        yield fd
    finally:
        os.close(fd)
