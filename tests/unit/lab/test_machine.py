from __future__ import annotations

import os
from pathlib import Path

import pytest

from lab import cgroups, labfile, machine, plan
from meshapi.errors import HopliteError


def planned(command: str, env: str = "{}") -> plan.Plan:
    text = (
        "{apiVersion: lab.hoplite.io/v1alpha1, kind: Lab, spec: {nodes: [{name: n, workloads: "
        f"[{{name: w, command: {command}, env: {env}}}]}}]}}}}"
    )
    return plan.make(labfile.parse(text, "f"), "lab")


def test_without_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HopliteError, match="hoplite-lab up needs root"):
        machine.check(planned("[]"))


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(cgroups, "mount_point", lambda: tmp_path)


def test_programs_are_looked_for_in_the_workloads_own_path(as_root: None, tmp_path: Path) -> None:
    machine.check(planned("[sh, -c, 'exit']"))
    machine.check(planned("[/bin/sh]"))
    with pytest.raises(HopliteError, match="n/default/w: program 'nginxx' is not on this machine"):
        machine.check(planned("[nginxx]"))
    with pytest.raises(HopliteError, match="program 'sh' is not on this machine"):
        machine.check(planned("[sh]", f"{{PATH: {tmp_path}}}"))
    with pytest.raises(HopliteError, match="relative path; write its absolute path"):
        machine.check(planned("[./sh]"))


def test_a_machine_without_a_resolv_conf(
    as_root: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(machine, "RESOLV_CONF", str(tmp_path / "resolv.conf"))
    with pytest.raises(HopliteError, match=r"resolv\.conf: not there, .*; make it: touch /"):
        machine.check(planned("[]"))


def test_a_read_only_cgroup_mount(
    as_root: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(HopliteError, match="cgroup v2 is mounted read-only"):
        machine.check(planned("[]"))
