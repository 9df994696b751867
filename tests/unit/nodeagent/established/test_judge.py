"""What policy says now of connections whose callers proved who they are, and of the others."""

from __future__ import annotations

import pytest

from meshapi.identity import claim
from meshapi.verdict import Direction, Hook, Path, Reason, Verdict
from nodeagent.established.judge import Judge
from nodeagent.layout import (
    FLOW_AUTHENTICATED,
    DatagramFlow,
    address_bytes,
    port_bytes,
)
from tests.unit.nodeagent.desired.test_residents import HOST4, HOST6, MESH, VAULT, Node

STRICT = MESH.replace(
    "metadata: {name: vault, namespace: shop}\nspec:\n  pod",
    "metadata: {name: vault, namespace: shop, "
    "annotations: {mesh.hoplite.io/identity: strict}}\nspec:\n  pod",
)
FAMILIES = pytest.mark.parametrize("address", [HOST4, HOST6], ids=["IPv4", "IPv6"])


def inbound(address: str, **changes: object) -> DatagramFlow:
    """An open connection to the vault."""
    flow = DatagramFlow(
        started=1,
        established=1,
        cgroup=VAULT,
        sent=0,
        received=0,
        dialled=address_bytes("10.244.1.1" if "." in address else "fd00:244:1::1"),
        actual=address_bytes(address),
        dialled_port=port_bytes(80),
        actual_port=port_bytes(40000),
        source=0,
        destination=256,
        source_class=0,
        destination_class=0,
        service=0,
        backend=0,
        rule=0,
        epoch=0,
        claim=0,
        node=0,
        protocol=6,
        direction=Direction.INBOUND,
        verdict=Verdict.ALLOW,
        reason=Reason.NO_POLICY,
        path=Path.DIRECT,
        hook=Hook.INGRESS,
        cut=0,
        flags=0,
        limit=0,
    )
    return flow._replace(**changes)


def proved(address: str, who: str) -> DatagramFlow:
    return inbound(address, claim=claim("shop", who), flags=FLOW_AUTHENTICATED)


def word(text: str, flow: DatagramFlow) -> tuple[Verdict, Reason]:
    decision = Judge(Node(text).compiler, lambda _: ()).decide(flow)
    return decision.verdict, decision.reason


@FAMILIES
def test_who_proved_to_be_allowed_stays_though_others_of_its_address_may_not(
    address: str,
) -> None:
    assert word(MESH, proved(address, "backup")) == (Verdict.ALLOW, Reason.POLICY_ALLOW)
    assert word(MESH, proved(address, "browser")) == (Verdict.DENY, Reason.INGRESS_DENIED)
    assert word(MESH, inbound(address))[0] is Verdict.DENY


def test_who_proved_to_be_somebody_that_is_gone_is_known_by_its_address() -> None:
    assert word(MESH, proved(HOST4, "gone"))[0] is Verdict.DENY
    everybody = MESH.replace("app: browser", "app: backup")
    assert word(everybody, proved(HOST4, "gone"))[0] is Verdict.ALLOW


@FAMILIES
def test_a_strict_policy_keeps_nobody_who_proved_to_be_somebody_that_is_gone(address: str) -> None:
    """Its address may be another's by now."""
    everybody = STRICT.replace("app: browser", "app: backup")
    assert word(everybody, proved(address, "gone")) == (Verdict.DENY, Reason.IDENTITY_REQUIRED)


def test_an_unproved_claim_counts_for_nothing() -> None:
    """Outbound flows hold their own claim, and nobody else's."""
    found = word(MESH, inbound(HOST4, claim=claim("shop", "backup")))
    assert found[0] is Verdict.DENY


@FAMILIES
def test_a_policy_that_becomes_strict_refuses_who_has_not_proved_who_it_is(address: str) -> None:
    everybody = STRICT.replace("app: browser", "app: backup")
    assert everybody != MESH
    assert word(everybody, inbound(address)) == (Verdict.DENY, Reason.IDENTITY_REQUIRED)
    assert word(everybody, proved(address, "browser")) == (Verdict.ALLOW, Reason.POLICY_ALLOW)


def test_a_caller_of_the_same_node_has_answered_to_its_address() -> None:
    near = """
---
apiVersion: mesh.hoplite.io/v1alpha1
kind: Workload
metadata: {name: near, namespace: shop, labels: {app: backup}}
spec: {nodeName: n1, cgroup: pods/near, addresses: [10.244.1.2]}
status: {identity: 259}
"""
    assert word(STRICT + near, inbound("10.244.1.2"))[0] is Verdict.ALLOW
