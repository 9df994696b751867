from __future__ import annotations

from pathlib import Path

import pytest

from meshapi.errors import HopliteError
from nodeagent.datapath import features
from nodeagent.datapath.attach import Datapath


def test_a_kernel_that_is_too_old_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "probe", lambda: frozenset({"socket-storage", "getsockopt"}))
    monkeypatch.setattr("platform.release", lambda: "4.19.0-27-amd64")
    pins = tmp_path / "pins"
    with pytest.raises(HopliteError, match=r"^kernel 4\.19\.0-27-amd64 has no cgroup-links"):
        Datapath(pins, ()).load()
    assert not pins.exists()
