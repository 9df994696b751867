"""Kernels for tests, and the table of what came of them."""

from __future__ import annotations

import pytest

from lab.vm import fetch
from lab.vm.catalog import KERNELS
from lab.vm.fetch import KernelTree
from tests.kernels.report import REPORT


@pytest.fixture(scope="session", params=[kernel.name for kernel in KERNELS])
def kernel(request: pytest.FixtureRequest) -> KernelTree:
    """Each kernel in turn, fetched if it was not there."""
    (tree,) = fetch.fetch([request.param])
    return tree


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if REPORT.rows:
        terminalreporter.section("kernels")
        terminalreporter.write_line(REPORT.table())
