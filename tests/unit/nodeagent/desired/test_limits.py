"""Connection limits in the tables: of a service, and of the ports of our own workloads."""

from __future__ import annotations

from meshapi.codec import decode
from meshapi.resources import Key, Resource
from nodeagent import layout
from nodeagent.layout import LIMIT, End, port_bytes
from tests.unit.nodeagent.desired.balancing import HERE, Node, mesh, policy, service, workload

CGROUP = 77
FOUND = {"cgroups": {("shop", "here"): (CGROUP, 2)}}
SECOND = 1_000_000_000


def limited(name: str = "web", targets: tuple[str, ...] = ("web",), **limits: int) -> Resource:
    return policy(name, targets, connectionLimits={"perIdentity": limits})


def other(**spec: object) -> Resource:
    """A second service that leads to the same port."""
    return decode(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "other", "namespace": "shop"},
            "spec": {
                "selector": {"app": "web"},
                "clusterIPs": ["10.96.0.2"],
                "ports": [{"port": 8080}],
                **spec,
            },
        }
    )


def of_service(web: Node) -> tuple[int, int, int]:
    """Interval, tolerance and most of the service's limit."""
    number = web.entry().limit
    assert number
    interval, tolerance, most, own, rule = LIMIT.unpack(
        web.compiler.tables["limits"][number.to_bytes(4, "little")]
    )
    assert own == number
    assert web.compiler.rules[rule].policy == "shop/web"
    return interval, tolerance, most


def guard(web: Node, port: int = 8080, protocol: str = "TCP") -> tuple[int, int, int] | None:
    """The same of a port of our own workload; None if nothing bounds it."""
    key = layout.GUARD_KEY.pack(CGROUP, port_bytes(port), layout.PROTOCOLS[protocol])
    raw = web.compiler.tables["guards"].get(key)
    return LIMIT.unpack(raw)[:3] if raw else None


def flagged(web: Node) -> bool:
    raw = web.compiler.tables["workloads"][CGROUP.to_bytes(8, "little")]
    return bool(layout.WORKLOAD.unpack(raw)[3] & End.LIMITED)


def test_a_service_without_limits_has_none() -> None:
    web = mesh()
    web.tell(**FOUND)
    assert web.entry().limit == 0
    assert not web.compiler.tables["limits"]
    assert not web.compiler.tables["guards"]
    assert not flagged(web)


def test_rate_burst_and_number() -> None:
    web = mesh(limited(connectionsPerSecond=10, burst=3, concurrentConnections=7))
    assert of_service(web) == (SECOND // 10, 2 * SECOND // 10, 7)


def test_without_a_burst_it_is_one_seconds_worth() -> None:
    web = mesh(limited(connectionsPerSecond=4))
    assert of_service(web) == (SECOND // 4, 3 * SECOND // 4, 0)


def test_a_number_alone_leaves_the_rate_free() -> None:
    assert of_service(mesh(limited(concurrentConnections=7))) == (0, 0, 7)


def test_the_extremes_fit() -> None:
    million = 1_000_000
    web = mesh(limited(connectionsPerSecond=million, burst=million, concurrentConnections=million))
    assert of_service(web) == (1000, (million - 1) * 1000, million)
    web.tell(limited(connectionsPerSecond=1, burst=million))
    assert of_service(web) == (SECOND, (million - 1) * SECOND, 0)


def test_all_ports_of_a_service_share_one_limit() -> None:
    web = mesh(limited(concurrentConnections=7))
    assert web.entry().limit == web.entry(53, "UDP").limit != 0


def test_a_redirected_service_has_its_limit_too() -> None:
    web = mesh(limited(concurrentConnections=7))
    number = web.entry().limit
    web.tell(redirected=frozenset({("shop", "web", 80)}))
    assert web.entry().action == layout.SERVICE_REDIRECT
    assert web.entry().limit == number


def test_what_comes_to_our_own_workload_is_bounded_too() -> None:
    web = mesh(limited(concurrentConnections=7))
    web.tell(**FOUND)
    assert guard(web) == guard(web, protocol="UDP") == (0, 0, 7)
    assert guard(web, 9) is None
    assert flagged(web)
    web.tell(gone=(Key("TrafficPolicy", "shop", "web"),))
    assert guard(web) is None
    assert not flagged(web)


def test_a_changed_service_or_workload_moves_the_guard() -> None:
    web = mesh(limited(concurrentConnections=7))
    web.tell(**FOUND)
    web.tell(service(ports=[{"port": 80, "targetPort": 9000}]))
    assert guard(web) is None
    assert guard(web, 9000) == (0, 0, 7)
    web.tell(workload("here", "n1", HERE, labels={"app": "else"}))
    assert guard(web, 9000) is None
    assert not flagged(web)


def test_of_two_services_at_one_port_the_more_generous_numbers_hold() -> None:
    web = mesh(
        limited(connectionsPerSecond=10, concurrentConnections=7),
        other(),
        limited("other", ("other",), connectionsPerSecond=2, burst=50, concurrentConnections=9),
    )
    web.tell(**FOUND)
    assert guard(web) == (SECOND // 10, 49 * SECOND // 10, 9)
    web.tell(limited("other", ("other",), connectionsPerSecond=2))
    assert guard(web) == (SECOND // 10, 9 * SECOND // 10, 0)


def test_a_service_without_a_limit_takes_nothing_away() -> None:
    web = mesh(limited(concurrentConnections=7), other())
    web.tell(**FOUND)
    assert guard(web) == (0, 0, 7)
