import argparse

import pytest

from hopctl.errors import UsageError
from hopctl.flows import end, gap, read_query, row, size
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
