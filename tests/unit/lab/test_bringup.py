from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from lab import api, netns
from lab.bringup import _silent_ports, located
from lab.labfile import parse
from meshapi.errors import InvalidError, Problem
from meshapi.resources import Resource

FILE = parse(
    """
apiVersion: lab.hoplite.io/v1alpha1
kind: Lab
spec: {nodes: [{name: n}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  ports:
    - port: 80
""",
    "f.yaml",
)
RESOURCES: list[Resource] = [m.resource for m in FILE.manifests]


def test_a_refusal_of_one_of_several_is_found_in_the_file() -> None:
    error = InvalidError("request", [Problem("$.objects[0].spec.ports[0].port", "taken", "move")])
    assert str(located(error, RESOURCES, FILE)) == "f.yaml:11: $.spec.ports[0].port: taken; move"


def test_a_refusal_of_the_whole_stays_as_it_is() -> None:
    error = InvalidError("request", [Problem("$", "too large")])
    assert located(error, RESOURCES, FILE) is error


@pytest.mark.root
def test_ports_nobody_listens_on(bare_lab: Callable[[str], api.Lab]) -> None:
    lab = bare_lab(
        "{apiVersion: lab.hoplite.io/v1alpha1, kind: Lab, spec: {nodes: [{name: n, workloads: "
        "[{name: w, ports: [{port: 80}, {port: 53, protocol: UDP}]}]}]}}"
    )
    (workload,) = lab.record.plan.workloads
    assert _silent_ports(workload) == ["80/TCP", "53/UDP"]

    def listen() -> socket.socket:
        return socket.create_server(("", 80))

    with netns.within(workload.netns, listen):
        assert _silent_ports(workload) == ["53/UDP"]
