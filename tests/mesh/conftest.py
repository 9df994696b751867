"""Labs for tests: whole meshes, uniquely named, always torn down, and looked for afterwards."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import api, traces
from meshapi.nodecontract import PROXY_ADDRESS4

# Every name of this session's labs begins so; the process id tells concurrent sessions apart.
PREFIX = f"t{os.getpid()}-"

MakeLab = Callable[[str], api.Lab]


@pytest.fixture(scope="session")
def _session() -> Iterator[Callable[[], str]]:
    """Gives out names, and at the end fails the run if anything of the labs is left."""
    for lab in traces.labs():
        killed = re.fullmatch(r"t(\d+)-\d+", lab)
        if killed and not Path("/proc", killed[1]).exists():
            api.stop(lab)  # its session could not do this
    count = 0

    def name() -> str:
        nonlocal count
        count += 1
        return f"{PREFIX}{count}"

    yield name
    assert _find() == []


@pytest.fixture(scope="session")
def leftovers() -> Callable[[], list[str]]:
    """Looks for what the labs of this session have left on the machine."""
    return _find


@pytest.fixture(scope="module")
def make_lab(_session: Callable[[], str]) -> Iterator[MakeLab]:
    """Starts a lab from the text of a file; it is stopped when the module's tests are done."""
    names: list[str] = []

    def make(text: str) -> api.Lab:
        names.append(_session())
        return api.start(text, name=names[-1], source="test.yaml")

    yield make
    for name in names:
        api.stop(name)


def _find() -> list[str]:
    found = [t for lab in traces.labs() if lab.startswith(PREFIX) for t in traces.of(lab)]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text(errors="replace")
        except OSError:
            continue  # ended meanwhile
        if f"/hoplite-lab/{PREFIX}" in words or f"hoplite-lab-{PREFIX}" in words:
            found.append(f"process {process.name}: {words.replace(chr(0), ' ')[:100]}")
    routes = Path("/proc/net/fib_trie").read_text() + Path("/proc/net/if_inet6").read_text()
    found += [
        f"address {trace} in the machine's own network"
        for trace in ("172.30.0.", "10.244.", PROXY_ADDRESS4, "fd000030", "fd000244", "fd6d6573")
        if trace in routes
    ]
    return found
