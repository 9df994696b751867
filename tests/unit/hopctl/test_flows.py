import argparse

import pytest

from hopctl.errors import UsageError
from hopctl.flows import end, gap, header, read_query, row, size
from meshapi.flow import Flow, FlowCoverage, FlowEndpoint, FlowQuery

DEFAULTS = {
    "since": None, "until": None, "source": "", "destination": "", "verdict": "", "direction": "",
    "protocol": "", "path": "", "last": None,
}  # fmt: skip


def read(**flags):
    return read_query(argparse.Namespace(**{**DEFAULTS, **flags}), 1000.0)


def test_flags_become_a_query():
    assert read() == FlowQuery()
    query = read(since="5m", source="a/b", verdict="deny", protocol="tcp", path="Proxy", last=3)
    assert query == FlowQuery(
        since=700.0, source="a/b", verdict="DENY", protocol="TCP", path="proxy", last=3
    )


def test_what_a_policy_in_audit_mode_would_refuse_can_be_asked_for():
    assert read(verdict="audit").verdict == "AUDIT"
    flow = Flow(
        time="2026-01-01T00:00:00Z", node="n1", direction="inbound", protocol="TCP",
        verdict="AUDIT", reason="WOULD_DENY", reason_code=6, path="direct",
        source=FlowEndpoint(), destination=FlowEndpoint(), state="closed",
    )  # fmt: skip
    cells = row(flow)
    assert [(c.text, c.tone) for c in cells[7:9]] == [("AUDIT", "warn"), ("WOULD_DENY", "warn")]


@pytest.mark.parametrize(
    ("flags", "flag"),
    [
        ({"source": "x"}, "--from"),
        ({"destination": "x"}, "--to"),
        ({"verdict": "x"}, "--verdict"),
        ({"last": 0}, "--last"),
        ({"since": "x"}, "--since"),
        ({"until": "x"}, "--until"),
    ],
)
def test_a_refusal_names_the_flag(flags, flag):
    with pytest.raises(UsageError) as caught:
        read(**flags)
    assert caught.value.where == flag


@pytest.mark.parametrize(
    ("endpoint", "port", "text"),
    [
        (
            {"namespace": "shop", "name": "web", "port": 80, "address": "1.2.3.4"},
            True,
            "shop/web:80",
        ),
        ({"namespace": "shop", "name": "web", "port": 80}, False, "shop/web"),
        ({"kind": "world", "address": "1.2.3.4", "port": 443}, True, "1.2.3.4:443"),
        ({"kind": "world", "address": "fd00::1", "port": 443}, True, "[fd00::1]:443"),
        ({"kind": "node", "name": "n1"}, True, "n1"),
        ({"kind": "world"}, True, "world"),
        ({"kind": "world", "name": "world", "address": "1.2.3.4", "port": 80}, True, "1.2.3.4:80"),
        ({"kind": "unknown", "name": "unknown", "address": "1.2.3.4"}, False, "1.2.3.4"),
        ({"kind": "node", "name": "node", "node": "n1", "port": 53}, True, "n1:53"),
        ({"kind": "node", "name": "node", "address": "169.254.77.1"}, False, "node"),
        ({"kind": "proxy", "name": "node-proxy", "address": "10.0.0.1"}, False, "node-proxy"),
        ({"kind": "workload", "namespace": "shop", "address": "10.0.0.1"}, False, "10.0.0.1"),
    ],
)
def test_an_end_is_named_as_well_as_it_can_be(endpoint, port, text):
    assert end(FlowEndpoint(**endpoint), port=port) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1.0kB"),
        (123_456, "123kB"),
        (2_500_000, "2.5MB"),
        (10**16, "10000.0TB"),
    ],
)
def test_sizes(count, text):
    assert size(count) == text


def test_a_flow_without_a_service_is_a_whole_row():
    flow = Flow(
        time="2026-01-01T00:00:00Z", node="n1", direction="inbound", protocol="UDP",
        verdict="DENY", reason="INGRESS_DENIED", reason_code=17, path="direct",
        source=FlowEndpoint(), destination=FlowEndpoint(), state="denied",
    )  # fmt: skip
    cells = row(flow)
    assert len(cells) == 12
    assert cells[5].text == "-"
    assert (cells[7].text, cells[7].tone) == ("DENY", "bad")
    assert [c.text for c in cells[10:]] == ["-", "-"], "it has no bytes and did not last"


def test_a_wide_row_says_where_it_was_decided_and_by_what():
    flow = Flow(
        time="2026-01-01T00:00:00Z", node="n1", direction="inbound", protocol="TCP",
        verdict="ALLOW", reason="POLICY_ALLOW", reason_code=3, path="direct", state="cut",
        source=FlowEndpoint(), destination=FlowEndpoint(), hook="ingress", authenticated=True,
        policy="shop/web", policy_kind="NetworkPolicy", rule="ingress[0]", duration_ms=61_000.0,
    )  # fmt: skip
    cells = dict(zip(header(wide=True), row(flow, wide=True), strict=True))
    assert cells["DURATION"].text == "1m1s"
    assert cells["STATE"].text == "cut"
    assert cells["HOOK"].text == "ingress"
    assert cells["AUTHENTICATED"].text == "yes"
    assert cells["POLICY"].text == "NetworkPolicy shop/web"
    assert cells["RULE"].text == "ingress[0]"


def test_a_wide_row_has_a_dash_for_what_there_is_not():
    flow = Flow(
        time="2026-01-01T00:00:00Z", node="n1", direction="outbound", protocol="TCP",
        verdict="ALLOW", reason="NO_POLICY", reason_code=2, path="direct", state="closed",
        source=FlowEndpoint(), destination=FlowEndpoint(),
    )  # fmt: skip
    cells = dict(zip(header(wide=True), row(flow, wide=True), strict=True))
    assert {cells[n].text for n in ("HOOK", "AUTHENTICATED", "POLICY", "RULE")} == {"-"}
    assert len(row(flow)) == len(header(wide=False))


@pytest.mark.parametrize(
    ("coverage", "since", "text"),
    [
        ({}, None, ""),
        ({"error": "not connected", "lost": 3}, None, "n1: not connected"),
        ({"lost": 3}, None, "n1: 3 records lost"),
        (
            {"lost": 3, "evicted": 9, "since": "2026-01-01T00:00:00Z"},
            None,
            "n1: 3 records lost; 9 older records evicted, "  # noqa: ISC004
            "kept are those since 2026-01-01T00:00:00Z",
        ),
        ({"evicted": 9, "since": "2026-01-01T00:00:00Z"}, 1_767_225_600.0, ""),
        ({"evicted": 9}, 5.0, "n1: 9 older records evicted, kept are those since an unknown time"),
    ],
)
def test_what_is_missing_is_said(coverage, since, text):
    assert gap(FlowCoverage(node="n1", **coverage), since) == text
