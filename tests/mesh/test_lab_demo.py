"""The demo, as ``make demo`` runs it: it holds, and leaves nothing when it is taken down."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from lab import api, traces

pytestmark = [pytest.mark.root, pytest.mark.envoy]


def test_every_step_holds(_session: Callable[[], str]) -> None:
    name = _session()
    try:
        result = subprocess.run(
            [sys.executable, "-m", "lab.demo", "--name", name],
            capture_output=True,
            text=True,
            check=False,
            timeout=110,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        assert result.stdout.count("✓") >= 15
        assert "What this was" in result.stdout
    finally:
        api.stop(name)
    assert traces.of(name) == []
