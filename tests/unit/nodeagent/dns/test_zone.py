"""Names of the mesh, by the rules of Kubernetes' DNS-based service discovery."""

from __future__ import annotations

import dataclasses

import pytest

from nodeagent.dns.zone import Answer, Zone, labels, reverse_address
from nodeagent.state import NodeState
from tests.unit.nodeagent.dns.conftest import MESH, headless, state_of

SUFFIX = "shop.svc.hoplite.local"
HEADLESS4 = ("10.244.2.12", "10.244.2.11", "172.30.0.12")  # by the workloads' names
NOTHING = Answer(("hoplite", "local"), exists=False)
EMPTY = Answer(("hoplite", "local"))


def ask(zone: Zone, name: str, kind: str = "A") -> Answer | None:
    return zone.look_up(labels(name), kind)


def records(answer: Answer | None) -> list[str]:
    """The answer in words, for short comparisons."""
    assert answer is not None
    assert answer.exists
    return [
        *answer.addresses,
        *(f"{t.port} {'.'.join(t.name)}" if t.port else ".".join(t.name) for t in answer.targets),
    ]


@pytest.mark.parametrize(
    "name",
    ["web.shop", "web.shop.svc", f"web.{SUFFIX}", "web.shop.svc.cluster.local", f"Web.{SUFFIX}."],
)
def test_a_service_has_its_virtual_addresses_under_every_name(zone: Zone, name: str) -> None:
    assert records(ask(zone, name)) == ["10.96.0.5"]
    assert records(ask(zone, name, "AAAA")) == ["fd00:96::5"]
    assert records(ask(zone, name, "TXT")) == []


def test_a_service_without_a_family_exists_without_that_record(zone: Zone) -> None:
    assert records(ask(zone, f"four.{SUFFIX}")) == ["10.96.0.6"]
    assert ask(zone, f"four.{SUFFIX}", "AAAA") == EMPTY


@pytest.mark.parametrize(
    "name",
    [
        "nosuch.shop.svc.hoplite.local",
        "web.nosuch.svc.hoplite.local",
        "nosuch.svc.hoplite.local",
        "web.shop.pod.hoplite.local",
        "web.shop.hoplite.local",
        "nosuch.hoplite.local",
        "below.web.shop.svc.hoplite.local",
        "_nosuch._tcp.web.shop.svc.hoplite.local",
        "_http._udp.web.shop.svc.hoplite.local",
        "_http._sctp.web.shop.svc.hoplite.local",
        "_sctp.web.shop.svc.hoplite.local",
        "a._http._tcp.web.shop.svc.hoplite.local",
        "_8080._tcp.four.shop.svc.hoplite.local",
        "nosuch.db.shop.svc.hoplite.local",
    ],
)
def test_names_inside_the_domain_that_do_not_exist(zone: Zone, name: str) -> None:
    for kind in ("A", "AAAA", "SRV", "TXT"):
        assert ask(zone, name, kind) == NOTHING


@pytest.mark.parametrize(
    "name",
    [
        "hoplite.local",
        "svc.hoplite.local",
        "shop.svc.hoplite.local",
        "empty.svc.hoplite.local",
        "_tcp.web.shop.svc.hoplite.local",
        "db-1.db.shop.svc.hoplite.local",
        "nobody.shop.svc.hoplite.local",
    ],
)
def test_names_between_others_exist_without_records(zone: Zone, name: str) -> None:
    assert ask(zone, name) == EMPTY


def test_each_zone_has_its_own_apex(zone: Zone) -> None:
    def apex(name: str) -> str:
        answer = ask(zone, name)
        assert answer is not None
        return ".".join(answer.apex)

    assert apex("nosuch.cluster.local") == "cluster.local"
    assert apex("nosuch.shop.svc") == "svc"
    assert apex("_nosuch._tcp.web.shop") == "web.shop"


def test_srv_of_a_port_and_of_a_whole_service(zone: Zone) -> None:
    http, dns = f"80 web.{SUFFIX}", f"53 web.{SUFFIX}"
    assert records(ask(zone, f"_http._tcp.web.{SUFFIX}", "SRV")) == [http]
    assert records(ask(zone, f"_dns._udp.web.{SUFFIX}", "SRV")) == [dns]
    assert records(ask(zone, f"web.{SUFFIX}", "SRV")) == [http, dns]
    assert records(ask(zone, f"four.{SUFFIX}", "SRV")) == [f"8080 four.{SUFFIX}"]
    assert records(ask(zone, f"_http._tcp.web.{SUFFIX}", "A")) == []


def test_srv_names_its_targets_in_the_domain_that_was_asked(zone: Zone) -> None:
    alias = "shop.svc.cluster.local"
    assert records(ask(zone, f"_http._tcp.web.{alias}", "SRV")) == [f"80 web.{alias}"]
    assert records(ask(zone, "_http._tcp.web.shop", "SRV")) == [f"80 web.{SUFFIX}"]
    assert records(ask(zone, "_http._tcp.web.shop.svc", "SRV")) == [f"80 web.{SUFFIX}"]


def test_srv_brings_the_addresses_of_its_targets(zone: Zone) -> None:
    answer = ask(zone, f"_http._tcp.web.{SUFFIX}", "SRV")
    assert answer is not None
    name = labels(f"web.{SUFFIX}")
    assert answer.additional == ((name, "10.96.0.5"), (name, "fd00:96::5"))


# -- headless --------------------------------------------------------------------------------------


@pytest.fixture(params=["no address", "None"])
def headless_zone(request: pytest.FixtureRequest, state: NodeState) -> Zone:
    """Both ways in which a service may have no virtual address."""
    services = dict(state.services)
    if request.param == "None":
        services["shop", "db"] = headless(services["shop", "db"])
    return Zone(dataclasses.replace(state, services=services), labels("hoplite.local"))


def test_a_headless_service_has_the_addresses_of_ready_backends(headless_zone: Zone) -> None:
    assert records(ask(headless_zone, f"db.{SUFFIX}")) == list(HEADLESS4)
    assert records(ask(headless_zone, f"db.{SUFFIX}", "AAAA")) == ["fd00:244:2::11"]
    assert records(ask(headless_zone, "db.shop")) == list(HEADLESS4)


def test_each_ready_backend_of_a_headless_service_has_a_name(headless_zone: Zone) -> None:
    assert records(ask(headless_zone, f"db-0.db.{SUFFIX}")) == ["10.244.2.11"]
    assert records(ask(headless_zone, f"db-0.db.{SUFFIX}", "AAAA")) == ["fd00:244:2::11"]
    assert records(ask(headless_zone, f"b.db-1.db.{SUFFIX}")) == ["10.244.2.12"]
    assert records(ask(headless_zone, f"db-3.db.{SUFFIX}")) == ["172.30.0.12"]
    assert ask(headless_zone, f"db-2.db.{SUFFIX}") == NOTHING, "not ready"


def test_srv_of_a_headless_service_has_each_backends_own_port(headless_zone: Zone) -> None:
    answer = ask(headless_zone, f"_sql._tcp.db.{SUFFIX}", "SRV")
    assert records(answer) == [
        f"15432 b.db-1.db.{SUFFIX}",
        f"5432 db-0.db.{SUFFIX}",
        f"25432 db-3.db.{SUFFIX}",
    ]
    assert answer is not None
    assert {a for _, a in answer.additional} == {*HEADLESS4, "fd00:244:2::11"}


def test_backends_on_one_hosts_network_are_one_address() -> None:
    text = """
{apiVersion: mesh.hoplite.io/v1alpha1, kind: MeshNode, metadata: {name: n1},
 spec: {addresses: [172.30.0.11]}}
---
{apiVersion: mesh.hoplite.io/v1alpha1, kind: Workload, metadata: {name: a, labels: {app: x}},
 spec: {nodeName: n1, cgroup: a, network: host}, status: {ready: true}}
---
{apiVersion: mesh.hoplite.io/v1alpha1, kind: Workload, metadata: {name: b, labels: {app: x}},
 spec: {nodeName: n1, cgroup: b, network: host}, status: {ready: true}}
---
{apiVersion: v1, kind: Service, metadata: {name: x},
 spec: {selector: {app: x}, ports: [{port: 1}]}}
"""
    assert records(ask(Zone(state_of(text), labels("m")), "x.default")) == ["172.30.0.11"]


# -- addresses -------------------------------------------------------------------------------------


def test_virtual_addresses_have_their_services_name(zone: Zone) -> None:
    name = "5.0.96.10.in-addr.arpa"
    assert records(ask(zone, name, "PTR")) == [f"web.{SUFFIX}"]
    assert records(ask(zone, name, "A")) == []
    six = ".".join(reversed("fd000096000000000000000000000005")) + ".ip6.arpa"
    assert records(ask(zone, six, "PTR")) == [f"web.{SUFFIX}"]


def test_workloads_of_headless_services_have_a_name_and_others_none(zone: Zone) -> None:
    assert records(ask(zone, "11.2.244.10.in-addr.arpa", "PTR")) == [f"db-0.db.{SUFFIX}"]
    assert records(ask(zone, "12.2.244.10.in-addr.arpa", "PTR")) == [f"b.db-1.db.{SUFFIX}"]
    assert records(ask(zone, "13.2.244.10.in-addr.arpa", "PTR")) == [], "not ready"
    assert records(ask(zone, "11.1.244.10.in-addr.arpa", "PTR")) == [], "but it is the mesh's"
    assert ask(zone, "1.2.0.192.in-addr.arpa", "PTR") is None


def test_a_backend_that_is_cut_off_has_no_name_any_more() -> None:
    quarantine = """
---
apiVersion: mesh.hoplite.io/v1alpha1
kind: Quarantine
metadata: {name: q, namespace: shop}
spec: {workload: db-0}
"""
    zone = Zone(state_of(MESH + quarantine), labels("hoplite.local"))
    assert records(ask(zone, "11.2.244.10.in-addr.arpa", "PTR")) == []
    assert records(ask(zone, "12.2.244.10.in-addr.arpa", "PTR")) == [f"b.db-1.db.{SUFFIX}"]


@pytest.mark.parametrize(
    "name",
    [
        "in-addr.arpa",
        "0.96.10.in-addr.arpa",
        "1.5.0.96.10.in-addr.arpa",
        "256.0.96.10.in-addr.arpa",
        "05.0.96.10.in-addr.arpa",
        "x.0.96.10.in-addr.arpa",
        "\u00b2.0.96.10.in-addr.arpa",
        "ip6.arpa",
        ".".join("g" * 32) + ".ip6.arpa",
        ".".join(["00"] * 32) + ".ip6.arpa",
    ],
)
def test_what_is_no_address_is_no_address(name: str) -> None:
    assert reverse_address(labels(name)) is None


# -- whose names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "example.org",
        "local",
        "nothoplite.local",
        "nosuch.shop",
        "shop.web",
        "svc.example.org",
        "web.shop.example.org",
    ],
)
def test_names_of_others(zone: Zone, name: str) -> None:
    kind = "SRV" if name == "local" else "A"
    assert ask(zone, name, kind) is None


def test_the_root_is_somebody_elses(zone: Zone) -> None:
    assert zone.look_up((), "NS") is None


def test_a_single_label_is_a_slip_and_goes_nowhere(zone: Zone) -> None:
    assert ask(zone, "web") == Answer((), exists=False)
    assert ask(zone, "web", "AAAA") == Answer((), exists=False)


@pytest.mark.parametrize("domain", ["cluster.local", "eu.cluster.local", "local", "mesh.example"])
def test_any_domain_will_do(state: NodeState, domain: str) -> None:
    zone = Zone(state, labels(domain))
    for suffix in (domain, "cluster.local"):
        answer = ask(zone, f"_http._tcp.web.shop.svc.{suffix}", "SRV")
        assert records(answer) == [f"80 web.shop.svc.{suffix}"]
    assert records(ask(zone, "5.0.96.10.in-addr.arpa", "PTR")) == [f"web.shop.svc.{domain}"]


def test_callers_are_the_node_and_its_workloads(zone: Zone) -> None:
    assert zone.callers == {
        "172.30.0.11",
        "fd00:30::11",
        "10.244.1.254",
        "10.244.1.11",
        "fd00:244:1::11",
    }
