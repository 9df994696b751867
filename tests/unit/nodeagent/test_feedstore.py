"""The stored state: what was saved is what is loaded, or a refusal."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshapi.errors import HopliteError
from meshapi.manifests import parse
from meshapi.resources import key_of
from meshapi.watch import Snapshot
from meshapi.wire import MeshSettings
from nodeagent.feedstore import FeedStore


def test_a_state_comes_back_with_what_holds_for_the_whole_mesh(tmp_path: Path) -> None:
    path = tmp_path / "feed.jsonl"
    (manifest,) = parse("{apiVersion: v1, kind: Namespace, metadata: {name: shop}}", "test")
    objects = {key_of(manifest.resource): manifest.resource}
    saved = Snapshot(7, objects, MeshSettings(domain="mesh.example"))
    store = FeedStore(path)
    assert store.load() is None
    store.save(saved)
    assert store.mesh.domain == "mesh.example"
    again = FeedStore(path)
    assert again.mesh == MeshSettings()
    assert again.load() == saved
    assert again.mesh.domain == "mesh.example"


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "feed.jsonl"
    path.write_text('{"type": "PUT"')
    with pytest.raises(HopliteError, match="the stored state cannot be read"):
        FeedStore(path).load()
