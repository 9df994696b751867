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
    assert FeedStore(path).load() == saved


def test_a_changed_mesh_is_stored_though_no_object_is(tmp_path: Path) -> None:
    path = tmp_path / "feed.jsonl"
    store = FeedStore(path)
    store.save(Snapshot(7, {}, MeshSettings(domain="one.example")))
    renamed = Snapshot(7, {}, MeshSettings(domain="two.example"), changed=frozenset())
    store.save(renamed)
    loaded = FeedStore(path).load()
    assert loaded is not None
    assert loaded.mesh.domain == "two.example"


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "feed.jsonl"
    path.write_text('{"type": "PUT"\n')
    with pytest.raises(HopliteError, match="the stored state cannot be read"):
        FeedStore(path).load()
