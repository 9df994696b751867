"""Directories stand for cgroups here: they have inodes, come and go, and tell of it."""

from __future__ import annotations

import os
import select
from pathlib import Path

from meshapi.manifests import parse
from meshapi.resources import Workload
from nodeagent.cgroups import CgroupFinder


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


def told(finder: CgroupFinder) -> bool:
    """Whether there is news; it is taken."""
    news = bool(select.select([finder.fd], [], [], 0)[0])
    finder.heard()
    return news


def test_a_cgroup_is_found_by_its_inode_and_level(tmp_path: Path) -> None:
    finder = CgroupFinder(tmp_path)
    assert finder.find([workload("pods/a")]) == {}
    (tmp_path / "pods" / "a").mkdir(parents=True)
    number = (tmp_path / "pods" / "a").stat().st_ino
    assert finder.find([workload("pods/a")]) == {("shop", "a"): (number, 2)}


def test_every_step_on_the_way_to_a_cgroup_is_told(tmp_path: Path) -> None:
    finder, wanted = CgroupFinder(tmp_path), [workload("pods/deep/a")]
    finder.find(wanted)
    assert not told(finder)
    (tmp_path / "pods").mkdir()
    assert told(finder)
    finder.find(wanted)
    (tmp_path / "pods" / "deep").mkdir()
    assert told(finder)
    finder.find(wanted)
    assert not told(finder)
    (tmp_path / "pods" / "deep" / "a").mkdir()
    assert told(finder)
    assert finder.find(wanted)
    assert not told(finder)


def test_a_way_that_was_removed_and_made_again_is_told_again(tmp_path: Path) -> None:
    finder, wanted = CgroupFinder(tmp_path), [workload("pods/a")]
    (tmp_path / "pods" / "a").mkdir(parents=True)
    finder.find(wanted)
    for _ in range(2):
        (tmp_path / "pods" / "a").rmdir()
        (tmp_path / "pods").rmdir()
        assert told(finder)
        assert finder.find(wanted) == {}
        (tmp_path / "pods").mkdir()
        assert told(finder)
        finder.find(wanted)
        (tmp_path / "pods" / "a").mkdir()
        assert told(finder)
        assert finder.find(wanted)


def test_what_happens_elsewhere_is_not_heard(tmp_path: Path) -> None:
    (tmp_path / "pods" / "a" / "inner").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    finder = CgroupFinder(tmp_path)
    finder.find([workload("pods/a")])
    (tmp_path / "other" / "b").mkdir()
    (tmp_path / "pods" / "a" / "inner" / "more").mkdir()
    assert not told(finder)
    os.close(finder.fd)
