"""Every kind of policy between real sockets: who gets in, by which way, and what is said.

Five callers, pods and host-network workloads of both nodes, ask a server of the second node by TCP
and UDP, over IPv4 and IPv6. The fine print is compared with a second evaluator in
tests/unit/nodeagent; here is seen that the kernel does what the tables say.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator

import pytest

from lab import api
from meshapi.flow import Flow
from tests.mesh.asking import apply, ask_unix, delete, eventually, flows
from tests.mesh.callers import WAYS, Callers, callers
from tests.mesh.test_datapath import (
    CLIENT,
    FAR_CLIENT,
    FAR_OUTSIDER,
    HOST_CLIENT,
    LAB,
    OUTSIDER,
    TCP,
    UDP,
)

pytestmark = pytest.mark.root

TARGETS = {
    "client": CLIENT,
    "far-client": FAR_CLIENT,
    "host-client": HOST_CLIENT,
    "outsider": OUTSIDER,
    "far-outsider": FAR_OUTSIDER,
}
ALL = set(TARGETS)
CLIENTS, OUTSIDERS = {"client", "far-client"}, {"outsider", "far-outsider"}
SHOP = CLIENTS | {"host-client"}
POLICIES = {
    "authorizationpolicy": ("security.istio.io/v1", "AuthorizationPolicy"),
    "clusternetworkpolicy": ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy"),
    "networkpolicy": ("networking.k8s.io/v1", "NetworkPolicy"),
}
SERVER = {"matchLabels": {"version": "two"}}


class World:
    """The lab, its callers, and the policies that a test has applied."""

    def __init__(self, lab: api.Lab, asking: Callers) -> None:
        self.lab = lab
        self._asking = asking
        self._applied: dict[tuple[str, str, str], None] = {}
        self.server = lab.workload("node2/shop/echo").addresses
        self.client = lab.workload(CLIENT).addresses

    def policy(
        self,
        kind: str,
        spec: dict,
        name: str = "tried",
        namespace: str = "shop",
        annotations: dict | None = None,
    ) -> None:
        namespace = "" if kind == "clusternetworkpolicy" else namespace
        version, word = POLICIES[kind]
        meta = {"name": name, "annotations": annotations or {}}
        meta |= {"namespace": namespace} if namespace else {}
        written = {"apiVersion": version, "kind": word, "metadata": meta, "spec": spec}
        apply(self.lab, json.dumps(written))
        self._applied[kind, namespace, name] = None

    def authorize(
        self, *rules: dict, action: str = "ALLOW", name: str = "tried", **more: str
    ) -> None:
        spec = {"selector": SERVER, "action": action, "rules": list(rules)}
        self.policy("authorizationpolicy", spec, name, **more)

    def ways_in(self) -> dict[str, Collection[str]]:
        """By which ways each caller gets to the server; every other one is refused at once."""
        heard = self._asking.asked(self.server, TCP, UDP)
        assert {word for ways in heard.values() for word in ways.values()} <= {"two", "EPERM"}
        return {
            name: {way for way, word in ways.items() if word == "two"}
            for name, ways in heard.items()
        }

    def in_by(self, ways: Collection[str]) -> set[str]:
        """Who gets in by all of these ways and no other; the others must not get in at all."""
        found = self.ways_in()
        assert all(not by or by == set(ways) for by in found.values()), found
        return {name for name, by in found.items() if by}

    def clean(self) -> None:
        for of in self._applied:
            delete(self.lab, *of)
        self._applied.clear()
        eventually(lambda: all(by == WAYS for by in self.ways_in().values()))


@pytest.fixture(scope="module")
def _world(make_lab: Callable[[str], api.Lab]) -> Iterator[World]:
    lab = make_lab(LAB)
    with callers(**{name: lab.target(target) for name, target in TARGETS.items()}) as asking:
        yield World(lab, asking)


@pytest.fixture
def world(_world: World) -> Iterator[World]:
    """Without any policy for the server, before a test and after it."""
    yield _world
    _world.clean()


# -- AuthorizationPolicy ---------------------------------------------------------------------------


def source(**words: list[str]) -> dict:
    return {"from": [{"source": words}]}


def when(key: str, *values: str, of: str = "values") -> dict:
    return {"when": [{"key": key, of: list(values)}]}


def test_whom_an_authorization_policy_names_gets_in(world: World) -> None:
    own4, own6 = world.client
    no = "notValues"
    for rule, expected in (
        (source(principals=["cluster.local/ns/shop/sa/client"]), CLIENTS),
        (source(notPrincipals=["*/sa/client"]), ALL - CLIENTS),
        (source(namespaces=["dev"]), OUTSIDERS),
        (source(notNamespaces=["dev"]), SHOP),
        (source(serviceAccounts=["shop/host"]), {"host-client"}),
        (source(notServiceAccounts=["host", "dev/outsider"]), CLIENTS),
        (source(ipBlocks=[own4, f"{own6}/128"]), {"client"}),
        (source(ipBlocks=["0.0.0.0/0", "::/0"], notIpBlocks=[own4, own6]), ALL - {"client"}),
        (when("source.namespace", "sh*"), SHOP),
        (when("source.namespace", "shop", of=no), OUTSIDERS),
        (when("source.principal", "*/sa/client"), CLIENTS),
        (when("source.principal", "*/sa/client", of=no), ALL - CLIENTS),
        (when("source.serviceAccount", "shop/host"), {"host-client"}),
        (when("source.ip", own4, own6), {"client"}),
        (when("source.ip", own4, own6, of=no), ALL - {"client"}),
        (source(namespaces=["shop"]) | when("source.ip", own4, own6, of=no), SHOP - {"client"}),
        ({"to": [{"operation": {"methods": ["GET"]}}]}, set()),  # no request, no match
        ({}, ALL),
    ):
        world.authorize(rule)
        assert world.in_by(WAYS) == expected, rule


def test_by_which_port_and_address_an_authorization_policy_lets_in(world: World) -> None:
    for rule, ways in (
        ({"to": [{"operation": {"ports": [str(TCP)]}}]}, {"TCP4", "TCP6"}),
        ({"to": [{"operation": {"notPorts": [str(TCP)]}}]}, {"UDP4", "UDP6"}),
        (when("destination.port", str(UDP)), {"UDP4", "UDP6"}),
        (when("destination.ip", world.server[1]), {"TCP6", "UDP6"}),
    ):
        world.authorize(rule)
        assert world.in_by(ways) == ALL, rule


def test_deny_goes_before_allow_and_ignores_what_only_requests_have(world: World) -> None:
    world.authorize(source(namespaces=["shop", "dev"]))
    denied = source(namespaces=["dev"]) | {"to": [{"operation": {"methods": ["GET"]}}]}
    world.authorize(denied, action="DENY", name="no-dev")
    assert world.in_by(WAYS) == SHOP


def test_nothing_is_allowed_by_a_policy_without_rules(world: World) -> None:
    world.policy("authorizationpolicy", {})
    assert world.in_by(WAYS) == set()


def test_a_policy_of_the_root_namespace_holds_everywhere(world: World) -> None:
    world.authorize(source(namespaces=["dev"]), action="DENY", namespace="hoplite-system")
    assert world.in_by(WAYS) == SHOP


# -- ClusterNetworkPolicy --------------------------------------------------------------------------

DEV = {"namespaces": {"matchLabels": {"kubernetes.io/metadata.name": "dev"}}}
EVERYBODY = {"namespaces": {}}
APP_CLIENT = {"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "client"}}}}


def tier(name: str, priority: int, *ingress: tuple[str, dict]) -> dict:
    """A policy for the server: what to do with whom, in this order."""
    rules = [{"action": action, "from": [peer]} for action, peer in ingress]
    subject = {"pods": {"namespaceSelector": {}, "podSelector": SERVER}}
    return {"tier": name, "priority": priority, "subject": subject, "ingress": rules}


def test_tiers_priorities_and_actions(world: World) -> None:
    """Workloads in the host's network are no peers of this kind."""
    for policies, closed, expected in (
        ([tier("Admin", 5, ("Deny", DEV))], False, SHOP),
        ([tier("Admin", 5, ("Accept", APP_CLIENT), ("Deny", EVERYBODY))], False, SHOP),
        ([tier("Admin", 5, ("Deny", EVERYBODY), ("Accept", APP_CLIENT))], False, {"host-client"}),
        ([tier("Admin", 5, ("Accept", DEV))], True, OUTSIDERS),
        ([tier("Admin", 5, ("Accept", DEV)), tier("Admin", 4, ("Deny", DEV))], False, SHOP),
        ([tier("Admin", 5, ("Deny", DEV)), tier("Admin", 4, ("Pass", DEV))], False, ALL),
        ([tier("Admin", 5, ("Pass", DEV))], True, set()),
        ([tier("Baseline", 5, ("Deny", EVERYBODY))], False, {"host-client"}),
        ([tier("Baseline", 5, ("Accept", DEV))], True, set()),  # a NetworkPolicy has decided
    ):
        for number, spec in enumerate(policies):
            world.policy("clusternetworkpolicy", spec, f"tried-{number}")
        if closed:
            world.policy("networkpolicy", {"podSelector": SERVER, "ingress": []})
        assert world.in_by(WAYS) == expected, policies
        world.clean()


def test_an_admins_egress_rule(world: World) -> None:
    networks = [f"{world.server[0]}/32", f"{world.server[1]}/128"]
    ports = [{"udp": {"destinationPort": {"range": {"start": UDP, "end": UDP + 9}}}}]
    rule = {"action": "Deny", "to": [{"networks": networks}], "protocols": ports}
    spec = {"tier": "Admin", "priority": 1, "subject": DEV, "egress": [rule]}
    world.policy("clusternetworkpolicy", spec)
    found = world.ways_in()
    assert {name for name, ways in found.items() if ways == {"TCP4", "TCP6"}} == OUTSIDERS
    assert {name for name, ways in found.items() if ways == WAYS} == SHOP


# -- NetworkPolicy ---------------------------------------------------------------------------------


def test_blocks_with_exceptions(world: World) -> None:
    own4, own6 = world.client
    blocks = [
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": [f"{own4}/32"]}},
        {"ipBlock": {"cidr": "::/0", "except": [f"{own6}/128"]}},
    ]
    world.policy("networkpolicy", {"podSelector": SERVER, "ingress": [{"from": blocks}]})
    assert world.in_by(WAYS) == ALL - {"client"}


def test_policies_add_up_and_ports_are_of_a_protocol(world: World) -> None:
    ports = [{"port": TCP - 10, "endPort": TCP + 50}]  # TCP; UDP is another matter
    world.policy("networkpolicy", {"podSelector": SERVER, "ingress": [{"ports": ports}]})
    assert world.in_by({"TCP4", "TCP6"}) == ALL
    named = [{"port": "udp", "protocol": "UDP"}]
    world.policy("networkpolicy", {"podSelector": SERVER, "ingress": [{"ports": named}]}, "more")
    assert world.in_by(WAYS) == ALL


# -- what is said ----------------------------------------------------------------------------------


def last(lab: api.Lab, caller: str, protocol: str, verdict: str) -> Flow:
    ends = {"source": caller, "destination": "shop/echo-node2", "direction": "outbound"}
    found = flows(lab, **ends, protocol=protocol, verdict=verdict)
    return [f for f in found if f"{f.source.namespace}/{f.source.name}" == caller][-1]


@pytest.mark.parametrize(
    ("kind", "audit"),
    [
        *((kind, "mesh.hoplite.io/mode=audit") for kind in POLICIES),
        ("authorizationpolicy", "istio.io/dry-run=true"),
    ],
)
def test_audit_lets_in_and_tells(world: World, kind: str, audit: str) -> None:
    spec = {
        "authorizationpolicy": {"selector": SERVER},
        "clusternetworkpolicy": tier("Admin", 1, ("Deny", EVERYBODY)),
        "networkpolicy": {"podSelector": SERVER, "ingress": []},
    }[kind]
    name = f"audited-{audit[:2]}"
    world.policy(kind, spec, name, annotations=dict([audit.split("=")]))
    assert world.in_by(WAYS) == ALL
    named = name if kind == "clusternetworkpolicy" else f"shop/{name}"

    def told() -> set[tuple[str, str, str]]:
        found = flows(world.lab, destination="shop/echo-node2", verdict="AUDIT")
        assert {f.reason for f in found} <= {"WOULD_DENY"}
        return {(f.source.name, f.protocol, f.policy) for f in found if f.policy == named}

    pods = ALL - {"host-client"} if kind == "clusternetworkpolicy" else ALL
    eventually(lambda: told() >= {(who, "TCP", named) for who in pods}, patience=20)


def test_a_refusal_names_policy_rule_direction_hook_and_both_ends(world: World) -> None:
    world.authorize({"when": [{"key": "source.namespace", "values": ["no"]}]}, name="nobody")
    rules = [source(namespaces=["no"]), source(namespaces=["dev"])]
    world.authorize(*rules, action="DENY", name="second-rule")
    admin = tier("Admin", 3, ("Pass", DEV), ("Deny", APP_CLIENT))
    world.policy("clusternetworkpolicy", admin, "second-rule")
    assert world.in_by(WAYS) == set()
    expected = {
        "dev/outsider": ("AUTHORIZATION_DENIED", "AuthorizationPolicy", "shop/second-rule", 1),
        "shop/client": ("ADMIN_DENIED", "ClusterNetworkPolicy", "second-rule", 1),
    }
    metrics = ask_unix(world.lab.agent_socket("node1"), "/metrics")
    own = ask_unix(world.lab.agent_socket("node1"), "/flows?verdict=DENY")
    for caller, (reason, kind, policy, rule) in expected.items():
        for protocol in ("TCP", "UDP"):
            flow = last(world.lab, caller, protocol, "DENY")
            assert (flow.reason, flow.policy_kind, flow.policy) == (reason, kind, policy)
            assert f"[{rule}]" in flow.rule, flow.rule
            assert (flow.direction, flow.hook) == ("outbound", "connect")
            namespace, _, name = caller.partition("/")
            assert flow.source.spiffe_id.endswith(f"/ns/{namespace}/sa/{name}")
            assert flow.destination.spiffe_id.endswith("/ns/shop/sa/echo")
            line = next(
                line
                for line in metrics.splitlines()
                if line.startswith("hoplite_connections_total")
                and f'policy="{policy}"' in line
                and f'protocol="{protocol}"' in line
            )
            assert f'reason="{reason}"' in line
            assert 'event="denied"' in line
            assert f'rule="{flow.rule}"' in line
        assert any(f'"policy":"{policy}"' in line for line in own.splitlines())
