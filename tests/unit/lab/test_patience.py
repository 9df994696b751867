from __future__ import annotations

import pytest

from lab.patience import VARIABLE, stretched


def test_a_slow_machine_gets_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert stretched(20) == 20
    monkeypatch.setenv(VARIABLE, "6")
    assert stretched(20) == 120
