"""The stored state: what was saved is what is loaded, or a refusal."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshapi.errors import HopliteError
from meshapi.resources import Key, Namespace, ObjectMeta, Resource
from meshapi.watch import Snapshot
from meshapi.wire import MeshSettings
from nodeagent import feedstore
from nodeagent.feedstore import FeedStore


def namespaces(**labels: str) -> dict[Key, Resource]:
    """A namespace for each name, labelled so that versions of it can be told apart."""
    return {
        Key("Namespace", "", name): Namespace(
            api_version="v1",
            kind="Namespace",
            metadata=ObjectMeta(name=name, labels={"version": label}),
        )
        for name, label in labels.items()
    }


def keys(*names: str) -> frozenset[Key]:
    return frozenset(Key("Namespace", "", name) for name in names)


FIRST = Snapshot(1, namespaces(a="1", b="1"), MeshSettings(trust_domain="td"))
SECOND = replace(FIRST, revision=2, objects=namespaces(a="2", c="1"), changed=keys("a", "b", "c"))
THIRD = replace(SECOND, revision=3, objects=namespaces(c="1"), changed=keys("a"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "feed.jsonl"


def held(path: Path) -> Snapshot | None:
    return FeedStore(path).load()


def saved(path: Path, *snapshots: Snapshot) -> FeedStore:
    store = FeedStore(path)
    for snapshot in snapshots:
        store.save(snapshot)
    return store


def whole(snapshot: Snapshot) -> Snapshot:
    """As it is read: nothing is known of what was before."""
    return replace(snapshot, changed=None)


def test_there_is_nothing_at_first(path: Path) -> None:
    assert held(path) is None


def test_what_was_saved_is_read_back(path: Path) -> None:
    saved(path, FIRST)
    assert held(path) == whole(FIRST)


def test_changes_are_appended(path: Path) -> None:
    store = saved(path, FIRST)
    before = path.read_bytes()
    store.save(SECOND)
    store.save(THIRD)
    assert path.read_bytes().startswith(before)
    assert held(path) == whole(THIRD)


def test_a_revision_without_changes_is_told_by_its_number(path: Path) -> None:
    store = saved(path, FIRST)
    before = path.read_bytes()
    store.save(replace(FIRST, revision=2, changed=frozenset()))
    assert path.read_bytes().startswith(before)
    assert held(path) == replace(FIRST, revision=2)


def test_the_same_again_is_not_written(path: Path) -> None:
    store = saved(path, FIRST)
    before = path.read_bytes()
    store.save(replace(FIRST, changed=frozenset()))
    assert path.read_bytes() == before


def test_a_changed_mesh_is_stored_though_no_object_is(path: Path) -> None:
    renamed = replace(FIRST, mesh=MeshSettings(domain="two.example"), changed=frozenset())
    saved(path, FIRST, renamed)
    assert held(path) == whole(renamed)


def test_everything_anew_replaces_the_file_even_at_the_same_revision(path: Path) -> None:
    store = saved(path, FIRST, SECOND)
    anew = replace(whole(SECOND), mesh=MeshSettings(root_namespace="other"))
    store.save(anew)
    assert held(path) == anew
    assert path.read_bytes().count(b'"REVISION"') == 1


def test_changes_that_outgrow_the_state_replace_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedstore, "_LEAST_ROOM", 400)
    store = saved(path, FIRST)
    sizes = []
    for revision in range(2, 12):
        snapshot = replace(
            FIRST, revision=revision, objects=namespaces(a=str(revision), b="1"), changed=keys("a")
        )
        store.save(snapshot)
        sizes.append(path.stat().st_size)
        assert held(path) == whole(snapshot)
    assert any(later < earlier for earlier, later in pairwise(sizes))


def test_a_new_process_does_not_append_to_what_it_did_not_write(path: Path) -> None:
    saved(path, FIRST)
    with path.open("ab") as file:
        file.write(b'{"type":"PUT"')  # the former one died here
    store = FeedStore(path)
    assert store.load() == whole(FIRST)
    store.save(SECOND)
    assert held(path) == whole(SECOND)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_crash_at_any_byte_leaves_a_whole_revision(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("feed") / "feed.jsonl"
    store = FeedStore(path)
    ends = []
    for snapshot in (FIRST, SECOND, THIRD):
        store.save(snapshot)
        ends.append(path.stat().st_size)
    content = path.read_bytes()
    cut = data.draw(st.integers(ends[0], ends[2]))
    tail = data.draw(st.sampled_from((b"", b"\0" * 30)))  # a file system may fill up what it lost
    path.write_bytes(content[:cut] + tail)
    complete = [s for s, end in zip((FIRST, SECOND, THIRD), ends, strict=True) if end <= cut]
    assert held(path) == whole(complete[-1])


def test_a_crash_before_the_rename_leaves_the_former_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = saved(path, FIRST)

    def crash(*_: object) -> None:
        raise OSError("power is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        with pytest.raises(OSError, match="power"):
            store.save(whole(SECOND))
    assert held(path) == whole(FIRST)
    store.save(THIRD)  # which says only what changed since the one that was lost
    assert held(path) == whole(THIRD)


def test_a_full_disk_leaves_the_former_revision(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = saved(path, FIRST)
    real = os.write

    def full(fd: int, content: bytes) -> int:
        real(fd, bytes(content)[:20])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            store.save(SECOND)
    assert held(path) == whole(FIRST)
    store.save(THIRD)
    assert held(path) == whole(THIRD)


@pytest.mark.parametrize("content", [b"x\n", b'{"type":"JUMP"}\n', b'{"type":"PUT","object":{}}\n'])
def test_a_file_that_cannot_be_read_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(HopliteError, match=r"stored state cannot be read.*remove the file"):
        held(path)
