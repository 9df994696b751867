"""Labs without daemons: everything that the lab makes by itself, really made."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from lab import api, labfile, machine, places, plan, record, teardown, traces
from lab.names import LabNames
from lab.record import Record

BareLab = Callable[[str], api.Lab]


@pytest.fixture
def bare_lab() -> Iterator[BareLab]:
    """Makes labs that look up but run no daemon; all are removed, and without a trace."""
    names: list[str] = []

    def make(text: str) -> api.Lab:
        name = f"unit{os.getpid()}-{len(names)}"
        names.append(name)
        planned = plan.make(labfile.parse(text, "test.yaml"), name)
        cgroup = LabNames(name).cgroup(machine.check(planned))
        with record.claimed(name):
            LabNames(name).logs.mkdir()
            places.make(planned, cgroup)
            record.save(Record(phase="up", plan=planned, cgroup=str(cgroup)))
        return api.load(name)

    yield make
    for name in names:
        teardown.remove(name, grace=0)
        assert traces.of(name) == []


@pytest.fixture
def two_nodes(bare_lab: BareLab) -> api.Lab:
    return bare_lab(
        """
apiVersion: lab.hoplite.io/v1alpha1
kind: Lab
spec:
  nodes:
    - name: node1
      workloads:
        - {name: web, namespace: shop, env: {COLOUR: blue}}
        - {name: frontend, namespace: shop}
        - {name: monitor, namespace: ops, network: host}
    - name: node2
      workloads:
        - {name: web, namespace: shop}
"""
    )
