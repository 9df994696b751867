"""What is asked on a node, and what the answers say of ports."""

from __future__ import annotations

from typing import Any

from meshapi.codec import decode
from meshapi.resources import Resource, key_of
from meshapi.resources.traffic import HealthCheck
from meshapi.watch import Snapshot
from nodeagent.health.checks import Target, unhealthy, wanted
from nodeagent.state import NodeState, build
from tests.unit.nodeagent.desired.balancing import EAST, HERE, node, policy, service, workload

WEB = ("shop", "here")
TCP, HTTP = HealthCheck(), HealthCheck(protocol="HTTP", path="/healthz")


def state(*resources: Resource) -> NodeState:
    objects = {key_of(o): o for o in resources}
    return build("n1", Snapshot(1, objects))


def mesh(*more: Resource) -> NodeState:
    return state(
        node("n1", ""), service(), workload("here", "n1", HERE), workload("east", "n2", EAST), *more
    )


def checked(**check: Any) -> Resource:
    return policy(healthCheck=check)


def second(name: str = "second", **spec: Any) -> Resource:
    return decode(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"selector": {"app": "web"}, "clusterIPs": ["10.96.0.2"], **spec},
        }
    )


def test_nothing_is_asked_without_a_policy() -> None:
    assert wanted(mesh()) == {}
    assert wanted(mesh(policy(outlierDetection={}))) == {}


def test_each_node_asks_its_own() -> None:
    (one,) = wanted(mesh(checked())).values()
    assert one.target == Target(WEB, HERE, 8080, TCP, "172.30.0.1")
    assert one.ports == {8080}


def test_another_port_may_speak_for_all_ports_udp_too() -> None:
    found = wanted(
        state(
            node("n1", ""),
            workload("here", "n1", HERE),
            service(
                ports=[
                    {"name": "http", "port": 80, "targetPort": 8080},
                    {"name": "udp", "port": 53, "protocol": "UDP"},
                ]
            ),
            checked(port=9000),
        )
    )
    (one,) = found.values()
    assert (one.target.port, one.ports) == (9000, {8080, 53})


def test_a_check_that_two_services_ask_for_is_made_once() -> None:
    both = policy(targets=("web", "second"), healthCheck={})
    found = wanted(mesh(second(ports=[{"port": 1, "targetPort": 8080}]), both))
    assert [one.ports for one in found.values()] == [{8080}]


def test_two_different_checks_of_one_port_must_both_be_well() -> None:
    found = wanted(
        mesh(
            second(ports=[{"port": 1, "targetPort": 8080}]),
            checked(),
            policy("other", ("second",), healthCheck={"protocol": "HTTP", "path": "/healthz"}),
        )
    )
    assert {target.check for target in found} == {TCP, HTTP}
    well = {target: target.check == TCP for target in found}
    assert unhealthy(found.values(), well) == {WEB: (8080,)}
    assert unhealthy(found.values(), dict.fromkeys(found, True)) == {}


def test_a_port_that_no_service_leads_to_is_not_asked() -> None:
    found = wanted(
        state(
            node("n1", ""),
            workload("here", "n1", HERE),
            service(ports=[{"port": 80, "targetPort": "unknown"}]),
            checked(),
        )
    )
    assert found == {}


def test_who_is_cut_off_is_not_asked() -> None:
    cut = decode(
        {
            "apiVersion": "mesh.hoplite.io/v1alpha1",
            "kind": "Quarantine",
            "metadata": {"name": "q", "namespace": "shop"},
            "spec": {"workload": "here"},
        }
    )
    assert wanted(mesh(checked(), cut)) == {}


def test_a_workload_in_the_hosts_network_is_asked_at_its_nodes_address() -> None:
    host = decode(
        {
            "apiVersion": "mesh.hoplite.io/v1alpha1",
            "kind": "Workload",
            "metadata": {"name": "here", "namespace": "shop", "labels": {"app": "web"}},
            "spec": {
                "nodeName": "n1",
                "cgroup": "x",
                "network": "host",
                "ports": [{"name": "http", "port": 8080}],
            },
        }
    )
    (one,) = wanted(state(node("n1", ""), host, service(), checked())).values()
    assert (one.target.address, one.target.source) == ("172.30.0.1", "")


def test_many_ports() -> None:
    ports = [{"name": f"p{i}", "port": i, "targetPort": i} for i in range(1, 65_536, 13)]
    found = wanted(
        state(node("n1", ""), workload("here", "n1", HERE), service(ports=ports), checked())
    )
    assert len(found) == len(ports)
    assert unhealthy(found.values(), dict.fromkeys(found, False)) == {
        WEB: tuple(range(1, 65_536, 13))
    }
