from __future__ import annotations

import pytest

from meshapi.backends import target_port
from meshapi.resources import (
    ObjectMeta,
    ServicePort,
    Workload,
    WorkloadPort,
    WorkloadSpec,
)


@pytest.mark.parametrize(
    ("target", "protocol", "port"),
    [(None, "TCP", 80), (9000, "TCP", 9000), ("http", "TCP", 8080), ("http", "UDP", 0)],
)
def test_target_ports(target: int | str | None, protocol: str, port: int) -> None:
    found = Workload(
        "mesh.hoplite.io/v1alpha1",
        "Workload",
        ObjectMeta(name="w"),
        WorkloadSpec(node_name="n1", cgroup="w", ports=(WorkloadPort(port=8080, name="http"),)),
    )
    wanted = ServicePort(port=80, protocol=protocol, target_port=target)  # type: ignore[arg-type]
    assert target_port(found, wanted) == port
