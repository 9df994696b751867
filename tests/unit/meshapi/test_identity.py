import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshapi.errors import HopliteError
from meshapi.identity import (
    FIRST,
    LAST,
    RESERVED_NAMES,
    WorkloadIdentity,
    claim,
    component_uri,
    parse_component_uri,
    parse_workload_uri,
)

segments = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", fullmatch=True)


@given(segments, segments, segments)
def test_a_workloads_name_survives(trust_domain, namespace, account):
    identity = WorkloadIdentity(trust_domain, namespace, account)
    assert parse_workload_uri(identity.uri) == identity


@given(segments, st.sampled_from(["agent", "l7proxy"]), segments)
def test_a_components_name_survives(trust_domain, component, node):
    uri = component_uri(trust_domain, component, node)
    assert parse_component_uri(uri) == (trust_domain, component, node)
    with pytest.raises(HopliteError):
        parse_workload_uri(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "spiffe://",
        "https://t/ns/a/sa/b",
        "spiffe://t/ns/a/sa/b/c",
        "spiffe://t/ns//sa/b",
        "spiffe://t/ns/a/sa/b\n",
        "spiffe://T/ns/a/sa/b",
        "spiffe://t/ns/a b/sa/c",
        "spiffe://t/sa/a/ns/b",
    ],
)
def test_anything_else_is_refused(uri):
    with pytest.raises(HopliteError, match="not a workload's SPIFFE ID"):
        parse_workload_uri(uri)
    assert parse_component_uri(uri) is None


def test_reserved_numbers_lie_below_the_first():
    assert max(RESERVED_NAMES) < FIRST
    assert LAST < 1 << 28


def test_a_claim_is_taken_from_the_whole_name():
    assert 0 < claim("shop", "web") < 1 << 32
    assert len({claim("shop", "web"), claim("sho", "pweb"), claim("shop", "web-1")}) == 3
