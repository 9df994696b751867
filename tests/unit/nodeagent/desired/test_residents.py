"""Other nodes' workloads by what their SYNs may claim."""

from __future__ import annotations

from dataclasses import replace

import pytest

from meshapi.identity import claim
from meshapi.manifests import parse
from meshapi.resources import Key, Resource, key_of
from meshapi.verdict import Reason, Verdict
from meshapi.watch import Snapshot
from nodeagent import layout
from nodeagent.desired import addresses
from nodeagent.desired.addresses import node_number
from nodeagent.desired.compiler import Compiler
from nodeagent.desired.units import Facts
from nodeagent.state import advance, difference
from tests.unit.nodeagent.desired.model import FORGED, IDENTITY_REQUIRED, Kernel

MESH = """
{apiVersion: mesh.hoplite.io/v1alpha1, kind: MeshNode, metadata: {name: n1},
 spec: {addresses: [172.30.0.11, "fd00:30::11"]}}
---
{apiVersion: mesh.hoplite.io/v1alpha1, kind: MeshNode, metadata: {name: n2},
 spec: {addresses: [172.30.0.12, "fd00:30::12"]}}
---
apiVersion: mesh.hoplite.io/v1alpha1
kind: Workload
metadata: {name: vault, namespace: shop, labels: {app: vault}}
spec: {nodeName: n1, cgroup: pods/vault, addresses: [10.244.1.1, "fd00:244:1::1"]}
status: {identity: 256}
---
apiVersion: mesh.hoplite.io/v1alpha1
kind: Workload
metadata: {name: backup, namespace: shop, labels: {app: backup}}
spec: {nodeName: n2, cgroup: host/backup, network: host}
status: {identity: 257}
---
apiVersion: mesh.hoplite.io/v1alpha1
kind: Workload
metadata: {name: browser, namespace: shop, labels: {app: browser}}
spec: {nodeName: n2, cgroup: host/browser, network: host}
status: {identity: 258}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: vault, namespace: shop}
spec:
  podSelector: {matchLabels: {app: vault}}
  ingress: [{from: [{podSelector: {matchLabels: {app: backup}}}]}]
"""

VAULT = 77  # its cgroup
FACTS = Facts(cgroups={("shop", "vault"): (VAULT, 2)}, identity=True)
HOST4, HOST6 = "172.30.0.12", "fd00:30::12"
FAMILIES = pytest.mark.parametrize("address", [HOST4, HOST6], ids=["IPv4", "IPv6"])


def objects(text: str = MESH) -> dict[Key, Resource]:
    return {key_of(o): o for o in (m.resource for m in parse(text, "mesh"))}


class Node:
    """The compiler of n1, told of one mesh after the other."""

    def __init__(self, text: str = MESH, facts: Facts = FACTS) -> None:
        self.compiler = Compiler("n1")
        self._held: dict[Key, Resource] = {}
        self.tell(text, facts)

    def tell(self, text: str, facts: Facts = FACTS) -> None:
        snapshot = Snapshot(self.compiler.state.revision + 1, objects(text))
        changes = difference(self._held, snapshot)
        self.compiler.update(advance(self.compiler.state, snapshot, changes), changes, facts)
        self._held = snapshot.objects

    @property
    def residents(self) -> dict[tuple[int, int], tuple[int, ...]]:
        return {
            layout.RESIDENT_KEY.unpack(key): layout.WORKLOAD.unpack(value)
            for key, value in self.compiler.tables["residents"].items()
        }

    def verdict(self, address: str, who: str) -> tuple[Verdict, Reason]:
        """What becomes of a SYN with an authentic claim."""
        found = Kernel(self.compiler.tables).accept(VAULT, address, 80, claim=claim("shop", who))
        assert found is not None
        return found.verdict, found.reason


def test_other_nodes_workloads_are_there_and_ones_own_are_not() -> None:
    number = node_number("n2")
    found = Node().residents
    assert found.keys() == {(number, claim("shop", who)) for who in ("backup", "browser")}
    assert found[number, claim("shop", "backup")][0] == 257
    assert found[number, claim("shop", "backup")][4] == claim("shop", "backup")


@FAMILIES
def test_two_workloads_of_one_address_are_told_apart_by_label(address: str) -> None:
    node = Node()
    assert node.verdict(address, "backup") == (Verdict.ALLOW, Reason.POLICY_ALLOW)
    assert node.verdict(address, "browser") == (Verdict.DENY, Reason.INGRESS_DENIED)
    by_address = Kernel(node.compiler.tables).accept(VAULT, address, 80)
    assert by_address is not None
    assert by_address.verdict is Verdict.DENY, "not all of them may"


@FAMILIES
def test_a_claim_of_a_workload_on_another_node_is_forged(address: str) -> None:
    kernel = Kernel(Node(MESH.replace("nodeName: n2", "nodeName: n3")).compiler.tables)
    assert kernel.accept(VAULT, address, 80, claim=claim("shop", "backup")) == FORGED
    kernel = Kernel(Node().compiler.tables)
    assert kernel.accept(VAULT, address, 80, claim=claim("shop", "vault")) == FORGED
    assert kernel.accept(VAULT, "192.0.2.1", 80, claim=claim("shop", "backup")) == FORGED


@FAMILIES
def test_a_strict_policy_lets_in_those_who_prove_themselves(address: str) -> None:
    note = "annotations: {mesh.hoplite.io/identity: strict}"
    strict = MESH.replace(
        "{name: vault, namespace: shop}\nspec:\n  podS",
        f"""\
{{name: vault, namespace: shop, {note}}}
spec:
  podS""",
    )
    assert strict != MESH
    node = Node(strict.replace("app: browser", "app: backup"))
    assert node.verdict(address, "backup") == (Verdict.ALLOW, Reason.POLICY_ALLOW)
    kernel = Kernel(node.compiler.tables)
    assert kernel.accept(VAULT, address, 80) == IDENTITY_REQUIRED


def test_blocks_that_hold_one_family_count_for_that_one() -> None:
    blocks = MESH.replace(
        "{podSelector: {matchLabels: {app: backup}}}", '{ipBlock: {cidr: "172.30.0.0/24"}}'
    )
    node = Node(blocks)
    assert node.verdict(HOST4, "browser") == (Verdict.ALLOW, Reason.POLICY_ALLOW)
    assert node.verdict(HOST6, "browser") == (Verdict.DENY, Reason.INGRESS_DENIED)


def test_a_workload_that_moves_is_claimed_from_where_it_is() -> None:
    node = Node()
    moved = MESH.replace("{nodeName: n2, cgroup: host/backup", "{nodeName: n3, cgroup: host/backup")
    node.tell(moved)
    assert node.residents.keys() == {
        (node_number("n3"), claim("shop", "backup")),
        (node_number("n2"), claim("shop", "browser")),
    }
    node.tell(MESH)
    assert node.residents == Node().residents


def test_of_two_with_one_number_neither_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses.identity, "claim", lambda *_: 7)
    assert not Node().residents


def test_identities_are_looked_at_as_the_facts_say() -> None:
    node = Node()
    assert node.compiler.settings.flags & layout.SETTINGS_IDENTITY
    node.tell(MESH, replace(FACTS, identity=False))
    assert not node.compiler.settings.flags & layout.SETTINGS_IDENTITY


def test_a_backend_says_whose_node_it_is_on() -> None:
    service = """
---
apiVersion: v1
kind: Service
metadata: {name: backup, namespace: shop}
spec: {selector: {app: backup}, clusterIPs: [10.96.0.1], ports: [{port: 80}]}
"""
    ready = MESH.replace("{identity: 257}", "{identity: 257, ready: true}")
    (raw,) = Node(ready + service).compiler.tables["backends"].values()
    assert layout.BACKEND.unpack(raw)[5] == node_number("n2")
