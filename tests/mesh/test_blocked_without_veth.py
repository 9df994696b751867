"""A pod whose interface no program polices, and whose address is on a block list."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lab import api
from lab.restart import kill, start_agent
from tests.mesh.asking import apply, dial, eventually, flows, send
from tests.mesh.test_datapath import CLIENT, LAB, TCP, UDP

pytestmark = pytest.mark.root

BLOCKED = """
apiVersion: mesh.hoplite.io/v1alpha1
kind: BlockList
metadata: {name: echo}
spec: {cidrs: [CIDRS]}
"""


def test_nobody_reaches_it_by_its_sockets_either(make_lab: Callable[[str], api.Lab]) -> None:
    """The callers are processes of its own node, which no other hook asks."""
    lab = make_lab(LAB)
    kill(lab, "node1", "hoplite-agent")
    config = lab.agent_socket("node1").parent.parent / "config.yaml"
    config.write_text(config.read_text() + "\ninterfaceHooks: none\n")
    start_agent(lab, "node1")
    own = lab.workload("node1/shop/echo").addresses
    for address in own:
        assert dial(lab, "node1", address, TCP)["answers"] == {"one": 1}
    apply(lab, BLOCKED.replace("CIDRS", f'{own[0]}, "{own[1]}"'))
    for address in own:
        assert dial(lab, CLIENT, address, TCP)["answers"] == {"EPERM": 1}
        assert dial(lab, "node1", address, TCP)["answers"] == {"TimeoutError": 1}
        assert send(lab, "node1", address, UDP)["answers"] == {"TimeoutError": 1}
    eventually(
        lambda: (
            {
                (f.protocol, f.reason)
                for f in flows(lab, destination="shop/echo", verdict="DENY", direction="inbound")
            }
            == {("TCP", "BLOCKED"), ("UDP", "BLOCKED")}
        )
    )
