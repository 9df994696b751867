"""Directories stand for cgroups here: they have inodes, come and go, and tell of it."""

from __future__ import annotations

import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshapi.manifests import parse
from meshapi.resources import Workload
from nodeagent.cgroups import CgroupFinder
from nodeagent.cgroupwatch import CgroupWatch


def workload(cgroup: str) -> Workload:
    text = f"""
apiVersion: mesh.hoplite.io/v1alpha1
kind: Workload
metadata: {{name: a, namespace: shop}}
spec: {{nodeName: n1, cgroup: {cgroup}, addresses: [10.244.1.1]}}
"""
    (manifest,) = parse(text, "test")
    assert isinstance(manifest.resource, Workload)
    return manifest.resource


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[CgroupWatch]:
    made = CgroupWatch(tmp_path)
    yield made
    made.close()


def told(watch: CgroupWatch) -> bool:
    """Whether there is news. That a watch was given up is news, too: look once more than needed."""
    return bool(select.select([watch], [], [], 0)[0])


def test_a_cgroup_is_found_by_its_inode_and_level(tmp_path: Path) -> None:
    finder = CgroupFinder(tmp_path)
    assert finder.find([workload("pods/a")]) == {}
    (tmp_path / "pods" / "a").mkdir(parents=True)
    number = (tmp_path / "pods" / "a").stat().st_ino
    assert finder.find([workload("pods/a")]) == {("shop", "a"): (number, 2)}


def test_every_step_on_the_way_to_a_cgroup_is_told(tmp_path: Path, watch: CgroupWatch) -> None:
    wanted = [workload("pods/deep/a")]
    watch.follow(wanted)
    assert not told(watch)
    for step in ("pods", "pods/deep", "pods/deep/a"):
        (tmp_path / step).mkdir()
        assert told(watch)
        watch.follow(wanted)
        watch.follow(wanted)
        assert not told(watch)


def test_a_way_that_was_removed_and_made_again_is_told_again(
    tmp_path: Path, watch: CgroupWatch
) -> None:
    wanted = [workload("pods/a")]
    (tmp_path / "pods" / "a").mkdir(parents=True)
    watch.follow(wanted)
    for _ in range(2):
        (tmp_path / "pods" / "a").rmdir()
        (tmp_path / "pods").rmdir()
        assert told(watch)
        watch.follow(wanted)
        (tmp_path / "pods").mkdir()
        assert told(watch)
        watch.follow(wanted)
        (tmp_path / "pods" / "a").mkdir()
        assert told(watch)
        watch.follow(wanted)


def test_a_way_that_was_made_anew_in_the_meantime_is_watched(
    tmp_path: Path, watch: CgroupWatch
) -> None:
    """The same names, other inodes: the old watch is on nothing."""
    wanted = [workload("pods/a")]
    (tmp_path / "pods" / "a").mkdir(parents=True)
    watch.follow(wanted)
    (tmp_path / "pods" / "a").rmdir()
    (tmp_path / "pods").rmdir()
    (tmp_path / "pods" / "a").mkdir(parents=True)
    watch.follow(wanted)
    (tmp_path / "pods" / "a").rmdir()
    assert told(watch)


def test_what_happens_elsewhere_is_not_heard(tmp_path: Path, watch: CgroupWatch) -> None:
    (tmp_path / "pods" / "a" / "inner").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    watch.follow([workload("pods/a")])
    (tmp_path / "other" / "b").mkdir()
    (tmp_path / "pods" / "a" / "inner" / "more").mkdir()
    assert not told(watch)


def test_who_is_not_followed_any_more_is_not_heard(tmp_path: Path, watch: CgroupWatch) -> None:
    (tmp_path / "pods").mkdir()
    watch.follow([workload("pods/a")])
    watch.follow([])
    watch.follow([])
    (tmp_path / "pods" / "a").mkdir()
    assert not told(watch)
