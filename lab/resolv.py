"""The resolv.conf(5) of a lab's workloads: the node's DNS, and names as short as may be. Pure."""

from __future__ import annotations

from meshapi.nodecontract import PROXY_ADDRESS4, PROXY_ADDRESS6
from meshapi.wire import MeshSettings

DOMAIN = MeshSettings().domain  # what services' names end in


def text(namespace: str = "") -> str:
    """For workloads of ``namespace``; without one, for a node's own processes."""
    search = [f"svc.{DOMAIN}", DOMAIN]
    if namespace:
        search.insert(0, f"{namespace}.svc.{DOMAIN}")
    return (
        f"nameserver {PROXY_ADDRESS4}\n"
        f"nameserver {PROXY_ADDRESS6}\n"
        f"search {' '.join(search)}\n"
        "options ndots:5\n"
    )
