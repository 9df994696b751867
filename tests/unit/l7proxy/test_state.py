"""Which workloads the node proxy sends requests to."""

from __future__ import annotations

import pytest

from l7proxy.state import view
from meshapi.codec import decode
from meshapi.resources import Resource, key_of
from meshapi.watch import Snapshot
from meshapi.wire import ServicePortRef
from tests.unit.nodeagent.desired.balancing import cut_off, service, workload

WEB = ServicePortRef(namespace="shop", name="web", port=80)
ILL = (8080,)

ROUTE = decode(
    {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "web"}],
            "rules": [{"backendRefs": [{"name": "web", "port": 80}]}],
        },
    }
)


def endpoints(*resources: Resource) -> set[str]:
    """The IPv4 addresses that the proxy of n1 has for the service's route."""
    everything = (ROUTE, service(), *resources)
    seen = view(Snapshot(1, {key_of(o): o for o in everything}), "n1")
    return {endpoint.addresses[0] for endpoint in seen.backends[WEB].endpoints}


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((), (), {"10.0.0.1", "10.0.0.2"}),
        ((), ILL, {"10.0.0.1"}),
        (ILL, ILL, {"10.0.0.1", "10.0.0.2"}),
    ],
    ids=["all are healthy", "one is not", "none is"],
)
def test_unhealthy_ones_are_for_when_there_is_no_other(
    one: tuple[int, ...], other: tuple[int, ...], expected: set[str]
) -> None:
    first = workload("one", "n1", "10.0.0.1", unhealthy=one)
    second = workload("other", "n2", "10.0.0.2", unhealthy=other)
    assert endpoints(first, second) == expected


@pytest.mark.parametrize("left", [(), ILL], ids=["others are healthy", "others are not"])
@pytest.mark.parametrize("own", [(), ILL], ids=["it is healthy", "it is not"])
def test_a_quarantined_one_gets_nothing_whatever_its_health(
    own: tuple[int, ...], left: tuple[int, ...]
) -> None:
    first = workload("one", "n1", "10.0.0.1", unhealthy=own)
    second = workload("other", "n2", "10.0.0.2", unhealthy=left)
    assert endpoints(first, second, cut_off("one")) == {"10.0.0.2"}
    assert endpoints(first, second, cut_off("one"), cut_off("other")) == set()
