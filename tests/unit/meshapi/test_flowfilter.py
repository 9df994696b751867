import pytest

from meshapi.errors import HopliteError
from meshapi.flow import Flow, FlowEndpoint, FlowQuery, FlowService
from meshapi.flowfilter import check, matches

FLOW = Flow(
    time="2026-01-01T00:00:00Z",
    node="n1",
    direction="outbound",
    protocol="TCP",
    verdict="DENY",
    reason="EGRESS_DENIED",
    reason_code=16,
    path="direct",
    source=FlowEndpoint(namespace="dev", name="tester-1", app="tester"),
    destination=FlowEndpoint(namespace="shop", name="web-1", app="web"),
    service=FlowService(namespace="edge", name="front"),
    state="denied",
)


@pytest.mark.parametrize(
    ("query", "holds"),
    [
        ({}, True),
        ({"source": "dev/tester-1"}, True),
        ({"source": "dev/tester"}, True),
        ({"source": "dev/"}, True),
        ({"source": "shop/"}, False),
        ({"source": "edge/front"}, False),
        ({"destination": "shop/web"}, True),
        ({"destination": "edge/front"}, True),
        ({"destination": "edge/"}, True),
        ({"destination": "shop/front"}, False),
        ({"verdict": "DENY", "protocol": "TCP", "path": "direct", "direction": "outbound"}, True),
        ({"verdict": "ALLOW"}, False),
        ({"protocol": "UDP"}, False),
        ({"source": "dev/", "destination": "shop/api"}, False),
    ],
)
def test_every_part_must_hold(query, holds):
    assert matches(FlowQuery(**query), FLOW) is holds


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ({"verdict": "deny"}, "verdict"),
        ({"direction": "up"}, "direction"),
        ({"protocol": "tcp"}, "protocol"),
        ({"path": "x"}, "path"),
        ({"source": "web"}, "source"),
        ({"destination": "/web"}, "destination"),
        ({"destination": "a/b/c"}, "destination"),
        ({"since": 2.0, "until": 1.0}, "since"),
        ({"last": 0}, "last"),
    ],
)
def test_what_can_match_nothing_is_refused(query, where):
    with pytest.raises(HopliteError) as caught:
        check(FlowQuery(**query))
    assert caught.value.where == where
    assert caught.value.fix


def test_a_sound_query_passes():
    check(FlowQuery(verdict="ALLOW", source="a/", destination="a/b", since=1.0, until=1.0, last=1))
