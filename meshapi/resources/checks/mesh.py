"""Checks of Workload and MeshNode."""

from __future__ import annotations

from meshapi.errors import Problem
from meshapi.resources.checks.common import DNS_SUBDOMAIN, LABEL_FIX, Problems, ip, port_name
from meshapi.resources.mesh import MeshNode, Workload


def workload(workload: Workload) -> Problems:
    spec = workload.spec
    if not DNS_SUBDOMAIN.fullmatch(spec.node_name):
        yield Problem("$.spec.nodeName", f"{spec.node_name!r} is not a node's name", LABEL_FIX)
    if not DNS_SUBDOMAIN.fullmatch(spec.service_account):
        yield Problem(
            "$.spec.serviceAccount", f"{spec.service_account!r} is not a valid name", LABEL_FIX
        )
    parts = spec.cgroup.split("/")
    if any(p in ("", ".", "..") for p in parts) or not spec.cgroup.isprintable():
        yield Problem(
            "$.spec.cgroup",
            f"{spec.cgroup!r} is not a path below the node's cgroup root",
            "write e.g. system.slice/nginx.service",
        )
    if spec.network == "pod" and not spec.addresses:
        yield Problem("$.spec.addresses", "empty", "network: pod needs the workload's addresses")
    if spec.network == "host" and spec.addresses:
        yield Problem("$.spec.addresses", "not empty", "network: host uses its node's addresses")
    for i, address in enumerate(spec.addresses):
        yield from ip(f"$.spec.addresses[{i}]", address)
    names: dict[str, int] = {}
    ports: dict[tuple[int, str], int] = {}
    for i, port in enumerate(spec.ports):
        yield from port_name(f"$.spec.ports[{i}].name", port.name, names, i)
        if ports.setdefault((port.port, port.protocol), i) != i:
            yield Problem(f"$.spec.ports[{i}].port", f"{port.port} stands there twice", "keep one")


def meshnode(node: MeshNode) -> Problems:
    for field, values in (
        ("addresses", node.spec.addresses),
        ("proxyAddresses", node.spec.proxy_addresses),
    ):
        for i, address in enumerate(values):
            yield from ip(f"$.spec.{field}[{i}]", address)
