"""A datapath of its own for each test module: pins below a name of its own, always removed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.config import DEFAULT_SIZES
from nodeagent.datapath.attach import Datapath
from nodeagent.layout import map_specs

SIZES = {**DEFAULT_SIZES, "peers": 1024, "events": 65536, "sockets": 1024}


@pytest.fixture(scope="module")
def pins(mounted_bpffs: None) -> Iterator[Path]:
    path = Path(f"/sys/fs/bpf/hoplite-test-{os.getpid()}")
    yield path
    if path.exists():
        shutil.rmtree(path)


@pytest.fixture(scope="module")
def datapath(pins: Path) -> Iterator[Datapath]:
    made = Datapath(pins, map_specs(SIZES))
    made.load()
    yield made
    made.remove()
