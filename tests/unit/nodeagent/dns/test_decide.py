"""Whose names are answered, forwarded or refused, and for whom."""

from __future__ import annotations

import dns.message
import dns.rcode
import pytest

from nodeagent.dns.decide import Forward, Reply, decide
from nodeagent.dns.zone import Zone, labels
from nodeagent.state import NodeState

OURS, NODE, STRANGER = "10.244.1.11", "169.254.77.1", "10.244.2.11"


def ask(zone: Zone, name: str, source: str, kind: str = "A") -> Reply | Forward | None:
    wire = dns.message.make_query(name, kind).to_wire()
    return decide(zone, frozenset({NODE}), wire, source, over_tcp=False)


def rcode(decision: Reply | Forward | None) -> dns.rcode.Rcode:
    assert isinstance(decision, Reply)
    return dns.message.from_wire(decision.wire).rcode()


@pytest.mark.parametrize("source", [OURS, NODE, STRANGER])
def test_names_of_the_mesh_are_answered(zone: Zone, source: str) -> None:
    decision = ask(zone, "web.shop.svc.hoplite.local", source)
    assert isinstance(decision, Reply)
    assert decision.kind == "zone"
    assert rcode(decision) == dns.rcode.NOERROR
    assert rcode(ask(zone, "nosuch.hoplite.local", source)) == dns.rcode.NXDOMAIN


@pytest.mark.parametrize("source", [OURS, NODE, "fd00:244:1::11", "172.30.0.11"])
def test_other_names_are_forwarded_for_the_node_and_its_workloads(zone: Zone, source: str) -> None:
    decision = ask(zone, "example.org", source)
    assert isinstance(decision, Forward)
    assert decision.question.name == ("example", "org")


@pytest.mark.parametrize("source", [STRANGER, "172.30.0.12", "192.0.2.1", "2001:db8::1"])
def test_and_for_nobody_else(zone: Zone, source: str) -> None:
    decision = ask(zone, "example.org", source)
    assert isinstance(decision, Reply)
    assert (rcode(decision), decision.kind) == (dns.rcode.REFUSED, "refused")


@pytest.mark.parametrize("name", ["web.shop.svc.hoplite.local", "a.svc", "a.cluster.local", "web"])
def test_before_any_state_is_known_no_name_of_the_mesh_is_answered_nor_forwarded(name: str) -> None:
    unknown = Zone(NodeState("n1"), labels("hoplite.local"))
    decision = ask(unknown, name, NODE)
    assert isinstance(decision, Reply)
    assert (rcode(decision), decision.kind) == (dns.rcode.SERVFAIL, "failed")
    assert isinstance(ask(unknown, "example.org", NODE), Forward)
    assert rcode(ask(unknown, "example.org", OURS)) == dns.rcode.REFUSED
