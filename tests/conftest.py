"""What all tests share: what needs root is skipped, what takes long is run when asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from lab import bpffs

# A machine that is busy with other tests draws slowly; that says nothing about what is tested.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "kernels" not in config.option.markexpr:  # make test-kernels
        emulated = [item for item in items if item.get_closest_marker("kernels")]
        config.hook.pytest_deselected(items=emulated)
        items[:] = [item for item in items if item not in emulated]
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
