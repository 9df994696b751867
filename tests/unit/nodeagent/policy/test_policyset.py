from __future__ import annotations

from dataclasses import replace

from meshapi.resources import Quarantine
from nodeagent.policy.decisions import at
from nodeagent.policy.members import WORLD, Member
from nodeagent.policy.policyset import (
    BothHold,
    Chains,
    PolicySet,
    mentioned_blocks,
    mentioned_domains,
)
from tests.unit.nodeagent.policy.asking import brief, decide, policies, workload

QUARANTINE = """
apiVersion: mesh.hoplite.io/v1alpha1
kind: Quarantine
metadata: {name: q, namespace: shop}
spec:
  workload: cache
  allowFrom: [{namespace: ops, workload: probe}, {cidr: 192.0.2.0/24}]
"""
CLOSED = """
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: np, namespace: shop}
spec: {podSelector: {}, ingress: [{ports: [{port: 80}]}]}
"""
CACHE = replace(workload("shop"), quarantined="shop/q")
PROBE = replace(workload("ops"), guest_of=frozenset({"shop/q"}))
INSIDE = Member(blocks=frozenset({"192.0.2.0/24"}))


def said(source: Member, destination: Member = CACHE, text: str = QUARANTINE) -> str:
    return brief(decide(policies(text), source, destination))


def test_nothing_goes_to_a_quarantined_workload_but_from_its_guests() -> None:
    assert said(workload("dev")) == "DENY QUARANTINED shop/q ingress default"
    assert said(WORLD) == "DENY QUARANTINED shop/q ingress default"
    assert said(PROBE) == "ALLOW NO_POLICY"
    assert said(INSIDE) == "ALLOW NO_POLICY"


def test_nothing_comes_from_it_not_even_to_its_guests() -> None:
    for destination in (PROBE, WORLD, replace(PROBE, quarantined="")):
        assert said(CACHE, destination) == "DENY QUARANTINED shop/q egress default"


def test_who_is_let_in_is_still_subject_to_policies() -> None:
    held = policies(QUARANTINE + CLOSED)
    assert decide(held, PROBE, CACHE, 80).allows
    assert brief(decide(held, PROBE, CACHE, 81)) == "DENY INGRESS_DENIED shop/np ingress default"


def test_a_node_proxy_forwards_for_others_so_no_block_lets_it_in() -> None:
    assert said(replace(INSIDE, proxy=True)) == "DENY QUARANTINED shop/q ingress default"


def test_whose_quarantine_is_not_known_is_cut_off() -> None:
    assert said(PROBE, replace(CACHE, quarantined="shop/other")).startswith("DENY QUARANTINED")


def test_while_two_revisions_hold_what_one_refuses_is_refused() -> None:
    former, latter = policies(CLOSED), policies(CLOSED.replace("80", "81"))
    both = BothHold(former, latter).chains(workload("shop"), "ingress")
    assert both is not None
    verdicts = {p: decide_with(both, p) for p in (80, 81, 82)}
    assert verdicts == {80: False, 81: False, 82: False}
    alone = BothHold(former, PolicySet()).chains(workload("shop"), "ingress")
    assert alone is not None
    assert [decide_with(alone, p) for p in (80, 81)] == [True, False]


def decide_with(chains: Chains, port: int) -> bool:
    return at(chains.answer(WORLD), "TCP", port).allows


MENTIONING = """
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: out}
spec:
  tier: Admin
  priority: 1
  subject: {namespaces: {}}
  egress:
    - {action: Accept, to: [{domainNames: ["*.Example.org", "a.b."]}]}
    - {action: Deny, to: [{networks: [10.0.0.0/8]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: np, namespace: shop}
spec:
  podSelector: {}
  ingress: [{from: [{ipBlock: {cidr: 11.0.0.0/8, except: [11.1.0.0/16]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ap, namespace: shop}
spec:
  rules:
    - from: [{source: {ipBlocks: [12.0.0.1], notIpBlocks: [13.0.0.0/8]}}]
      when: [{key: source.ip, values: [14.0.0.0/8]}, {key: destination.ip, notValues: [15.0.0.0/8]}]
"""


def test_every_block_that_any_kind_mentions_is_told_apart() -> None:
    held = policies(MENTIONING + "---" + QUARANTINE)
    written = [*held.cluster, *held.network["shop"], *held.authorization["shop"]]
    quarantines: list[Quarantine] = list(held.quarantines.values())
    blocks = mentioned_blocks(written, quarantines)
    assert {str(network) for network in blocks.regions()} == {
        "10.0.0.0/8",
        "11.0.0.0/8",
        "11.1.0.0/16",
        "12.0.0.1/32",
        "13.0.0.0/8",
        "14.0.0.0/8",
        "15.0.0.0/8",
        "192.0.2.0/24",
    }


def test_domain_names_are_told_apart_in_one_writing() -> None:
    assert mentioned_domains(policies(MENTIONING).cluster) == {"*.example.org", "a.b"}
