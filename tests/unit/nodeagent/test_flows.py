"""Kernel records become flows with the right names, and history answers queries over them."""

from __future__ import annotations

import datetime as dt

import pytest

from meshapi import identity
from meshapi.codec import decode
from meshapi.errors import HopliteError
from meshapi.flow import Flow, FlowQuery
from meshapi.flowfilter import query_from
from meshapi.manifests import parse
from meshapi.resources import key_of
from meshapi.verdict import REASON_TEXT, Direction, Hook, Path, Reason, Verdict
from meshapi.watch import Snapshot
from nodeagent.desired.services import service_number as number_of
from nodeagent.layout import EVENT, Event, address_bytes, port_bytes
from nodeagent.policy.decisions import Rule
from nodeagent.state import build as build_state
from nodeagent.telemetry.flows import from_event
from nodeagent.telemetry.history import History
from nodeagent.telemetry.names import Names

MESH = """
{apiVersion: mesh.hoplite.io/v1alpha1, kind: MeshNode, metadata: {name: n1},
 spec: {addresses: [172.30.0.11], proxyAddresses: [10.244.1.254]}}
---
{apiVersion: mesh.hoplite.io/v1alpha1, kind: MeshNode, metadata: {name: n2},
 spec: {addresses: [172.30.0.12], proxyAddresses: [10.244.2.254]}}
---
apiVersion: mesh.hoplite.io/v1alpha1
kind: Workload
metadata: {name: frontend, namespace: shop, labels: {app: front}}
spec: {nodeName: n1, cgroup: pods/frontend, addresses: [10.244.1.1]}
status: {identity: 256, spiffeID: "spiffe://m/ns/shop/sa/frontend", ready: true}
---
apiVersion: mesh.hoplite.io/v1alpha1
kind: Workload
metadata: {name: cache-0, namespace: shop, labels: {app: cache}}
spec: {nodeName: n2, cgroup: pods/cache, addresses: [10.244.2.1], ports: [{port: 6379}]}
status: {identity: 257, spiffeID: "spiffe://m/ns/shop/sa/cache", ready: true}
---
apiVersion: v1
kind: Service
metadata: {name: cache, namespace: shop}
spec: {selector: {app: cache}, clusterIPs: [10.96.0.5], ports: [{port: 6379}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: shop}
spec: {podSelector: {}}
"""
FRONTEND_CGROUP = 4242


@pytest.fixture(scope="module")
def names() -> Names:
    objects = [m.resource for m in parse(MESH, "mesh")]
    state = build_state("n1", Snapshot(7, {key_of(o): o for o in objects}))
    service = ("shop", "cache", 6379)
    return Names(
        state,
        cgroups={FRONTEND_CGROUP: ("shop", "frontend")},
        services={number_of(*service, "TCP"): service},
        rules={77: Rule("NetworkPolicy", "shop/closed", "ingress default")},
    )


def event(**changes: object) -> Event:
    base = Event(
        time=5_000_000_000,
        duration=2_500_000,
        connect=80_000,
        cgroup=FRONTEND_CGROUP,
        cookie=1,
        sent=100,
        received=2000,
        local=address_bytes("10.244.1.1"),
        remote=address_bytes("10.244.2.1"),
        dialled=address_bytes("10.96.0.5"),
        local_port=port_bytes(40000),
        remote_port=port_bytes(6379),
        dialled_port=port_bytes(6379),
        error=0,
        source=256,
        destination=257,
        service=0,
        rule=0,
        retransmits=1,
        round_trip=90,
        protocol=6,
        direction=Direction.OUTBOUND,
        verdict=Verdict.ALLOW,
        reason=Reason.NO_POLICY,
        path=Path.DIRECT,
        hook=Hook.CONNECT,
        state=1,
        cut=0,
    )
    return base._replace(**changes)


def flow(names: Names, **changes: object) -> Flow:
    packed = EVENT.pack(*event(**changes))
    return from_event(Event(*EVENT.unpack(packed)), names, 1_700_000_000_000_000_000)


def service_number(names: Names) -> int:
    return next(n for n, name in names.services.items() if name == ("shop", "cache", 6379))


def test_an_outbound_flow_names_both_ends_and_the_service(names: Names) -> None:
    got = flow(names, service=service_number(names))
    assert (got.source.namespace, got.source.name, got.source.app) == ("shop", "frontend", "front")
    assert (got.source.address, got.source.port) == ("10.244.1.1", 40000)
    assert (got.destination.namespace, got.destination.name) == ("shop", "cache-0")
    assert (got.destination.node, got.destination.spiffe_id) == (
        "n2",
        "spiffe://m/ns/shop/sa/cache",
    )
    assert got.service is not None
    assert (got.service.name, got.service.address, got.service.port) == ("cache", "10.96.0.5", 6379)
    assert (got.bytes_sent, got.bytes_received, got.retransmits) == (100, 2000, 1)
    assert (got.duration_ms, got.connect_ms) == (2.5, 0.08)
    assert got.time == "2023-11-14T22:13:25.000000Z"
    assert (got.verdict, got.reason, got.path, got.state) == (
        "ALLOW",
        "NO_POLICY",
        "direct",
        "closed",
    )


def test_a_redirected_flow_is_to_the_service(names: Names) -> None:
    got = flow(
        names,
        service=service_number(names),
        path=Path.PROXY,
        verdict=Verdict.REDIRECT,
        destination=0,
        remote=address_bytes("169.254.77.1"),
        remote_port=port_bytes(15001),
    )
    assert (got.destination.kind, got.destination.namespace, got.destination.name) == (
        "service",
        "shop",
        "cache",
    )
    assert (got.path, got.verdict) == ("proxy", "REDIRECT")


def test_a_refusal_names_policy_rule_and_hook(names: Names) -> None:
    rule = next(
        n
        for n, r in names.rules.items()
        if (r.policy, r.text) == ("shop/closed", "ingress default")
    )
    got = flow(
        names, verdict=Verdict.DENY, reason=Reason.INGRESS_DENIED, rule=rule, state=3, connect=0
    )
    assert (got.policy, got.rule, got.hook) == ("shop/closed", "ingress default", "connect")
    assert got.policy_kind == "NetworkPolicy"
    assert got.state == "denied"
    assert "no rule allows" in got.message
    assert got.connect_ms is None


def test_a_connection_that_was_cut_says_why(names: Names) -> None:
    got = flow(names, cut=Reason.INGRESS_DENIED, rule=77)
    assert (got.state, got.verdict, got.reason) == ("cut", "ALLOW", "INGRESS_DENIED")
    assert (got.policy, got.message) == ("shop/closed", REASON_TEXT[Reason.INGRESS_DENIED])


@pytest.mark.parametrize(
    ("address", "number", "kind", "node"),
    [
        ("172.30.0.12", identity.NODE, "node", "n2"),
        ("10.244.2.254", identity.PROXY, "proxy", "n2"),
        ("192.0.2.9", identity.WORLD, "world", ""),
    ],
)
def test_ends_that_are_no_workload(
    names: Names, address: str, number: int, kind: str, node: str
) -> None:
    got = flow(
        names,
        direction=Direction.INBOUND,
        source=number,
        destination=256,
        remote=address_bytes(address),
        dialled=address_bytes("10.244.1.1"),
    )
    assert (got.source.kind, got.source.node, got.source.address) == (kind, node, address)
    assert got.destination.name == "frontend"


def test_an_address_that_changed_hands_is_not_named_after_its_new_owner(names: Names) -> None:
    got = flow(names, destination=999)
    assert got.destination.name == ""
    assert got.destination.identity == 999


def test_dialling_a_virtual_address_at_a_wrong_port_names_the_service(names: Names) -> None:
    got = flow(
        names,
        verdict=Verdict.DENY,
        reason=Reason.SERVICE_PORT_UNKNOWN,
        destination=0,
        remote=address_bytes("10.96.0.5"),
        remote_port=port_bytes(1),
        state=3,
    )
    assert (got.destination.kind, got.destination.name) == ("service", "cache")


# -- history ---------------------------------------------------------------------------------------


def filled(names: Names, count: int, limit: int = 1000) -> History:
    history = History(limit, since=0.0)
    for second in range(count):
        record = event(time=second * 1_000_000_000, sent=second)
        history.add(EVENT.pack(*record), names, 0)
    return history


def test_time_range_and_last(names: Names) -> None:
    history = filled(names, 10)
    sent = [f.bytes_sent for f in history.select(FlowQuery(since=3.0, until=6.0))]
    assert sent == [3, 4, 5, 6]
    assert [f.bytes_sent for f in history.select(FlowQuery(last=2))] == [8, 9]


def test_by_name_app_and_namespace(names: Names) -> None:
    history = filled(names, 1)
    for wanted in ("shop/frontend", "shop/front", "shop/"):
        assert len(list(history.select(FlowQuery(source=wanted)))) == 1
    for wanted in ("shop/cache-0", "shop/cache"):
        assert len(list(history.select(FlowQuery(destination=wanted)))) == 1
    assert not list(history.select(FlowQuery(source="shop/cache")))
    assert not list(history.select(FlowQuery(destination="dev/")))
    assert not list(history.select(FlowQuery(verdict="DENY")))


def test_what_went_out_is_counted_and_the_coverage_begins_after_it(names: Names) -> None:
    history = filled(names, 10, limit=4)
    assert (history.held, history.evicted, history.total) == (4, 6, 10)
    coverage = history.coverage("n1", returned=4, lost=3)
    assert (coverage.lost, coverage.evicted) == (3, 6)
    assert dt.datetime.fromisoformat(coverage.since).timestamp() == 5.0


def records(first: int, count: int) -> bytes:
    """One flow a second, numbered by ``bytesSent``."""
    return b"".join(
        EVENT.pack(*event(time=number * 1_000_000_000, sent=number))
        for number in range(first, first + count)
    )


def test_thousands_of_flows_come_back_in_their_order_and_the_oldest_go_first(names: Names) -> None:
    history = History(3000, since=0.0)
    for first in range(0, 7000, 700):
        history.add(records(first, 700), names, 0)
    held = [flow.bytes_sent for flow in history.select(FlowQuery())]
    assert held == list(range(7000 - history.held, 7000))
    assert 2000 < history.held <= 3000
    assert history.held + history.evicted == history.total == 7000
    since = dt.datetime.fromisoformat(history.coverage("n1", 0, 0).since)
    assert since.timestamp() == history.evicted - 1


def test_a_flow_keeps_the_names_and_the_clock_of_its_time(names: Names) -> None:
    history = History(10_000, since=0.0)
    others = Names(build_state("n2", Snapshot(8, {})), {}, {}, {})
    minute = 60_000_000_000
    for first, how in enumerate([(names, 0), (others, 0), (others, minute), (names, minute)]):
        history.add(records(first * 1000, 1000), *how)
    flows = list(history.select(FlowQuery()))
    assert [flow.bytes_sent for flow in flows] == list(range(4000))
    assert [flow.node for flow in flows] == ["n1"] * 1000 + ["n2"] * 2000 + ["n1"] * 1000
    seconds = [dt.datetime.fromisoformat(flow.time).timestamp() for flow in flows]
    assert seconds == [number + (60 if number >= 2000 else 0) for number in range(4000)]


def test_what_comes_or_goes_while_flows_are_read_changes_nothing(names: Names) -> None:
    history = History(1000, since=0.0)
    history.add(records(0, 1000), names, 0)
    flows = history.select(FlowQuery())
    read = [next(flows).bytes_sent]
    history.add(records(1000, 2000), names, 0)
    assert read + [flow.bytes_sent for flow in flows] == list(range(1000))


def test_a_history_of_nothing_only_counts(names: Names) -> None:
    history = filled(names, 3, limit=0)
    assert (history.held, history.evicted, history.total) == (0, 3, 3)
    assert not list(history.select(FlowQuery()))


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"verdict": "MAYBE"}, "is not a verdict"),
        ({"source": "frontend"}, "NAMESPACE/NAME"),
        ({"since": "yesterday"}, "is not a number"),
        ({"since": "5", "until": "4"}, "later than until"),
        ({"last": "0"}, "at least 1"),
        ({"colour": "red"}, "is not a filter"),
    ],
)
def test_a_query_that_makes_no_sense_is_refused(parameters: dict[str, str], complaint: str) -> None:
    with pytest.raises(HopliteError, match=complaint):
        query_from(parameters)


def test_the_manifests_above_are_valid() -> None:
    for manifest in parse(MESH, "mesh"):
        assert decode(manifest.document.value) == manifest.resource
