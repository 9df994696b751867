"""What all tests share: skipping what needs root, and a BPF file system where one is needed."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from lab import bpffs

# A machine that is busy with other tests draws slowly; that says nothing about what is tested.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root: sudo make test"))


@pytest.fixture(scope="module")
def mounted_bpffs() -> Iterator[None]:
    """A BPF file system at its usual place, unmounted again if it was not there before."""
    bpffs.ensure()
    yield
    bpffs.release()
