from __future__ import annotations

from dataclasses import replace

import pytest

from nodeagent.policy.clusternetworkpolicy import domain_pattern
from nodeagent.policy.members import WORLD, Member
from tests.unit.nodeagent.policy.asking import brief, decide, policies, workload

HEAD = """
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
"""
NETWORK_POLICY = """
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: np, namespace: shop}
spec:
  podSelector: {}
  ingress: [{from: [{namespaceSelector: {}}]}]
"""


def rules(
    *actions: str, name: str = "cnp", tier: str = "Admin", priority: int = 1, peer: str = ""
) -> str:
    """A policy about the whole mesh, with a rule for each action, all for one kind of source."""
    peer = peer or "{namespaces: {}}"
    written = ", ".join(f"{{action: {action}, from: [{peer}]}}" for action in actions)
    return f"""---{HEAD}
metadata: {{name: {name}}}
spec:
  {{tier: {tier}, priority: {priority}, subject: {{namespaces: {{}}}}, ingress: [{written}]}}
"""


def said(text: str, source: Member | None = None) -> str:
    return brief(decide(policies(text), source or workload("dev"), workload("shop")))


def test_the_first_rule_decides() -> None:
    assert said(rules("Deny", "Accept")) == "DENY ADMIN_DENIED cnp ingress[0]"
    assert said(rules("Accept", "Deny")) == "ALLOW POLICY_ALLOW cnp ingress[0]"


def test_admin_stands_above_network_policy() -> None:
    assert said(rules("Deny") + NETWORK_POLICY) == "DENY ADMIN_DENIED cnp ingress[0]"
    outside = rules("Accept", peer="{namespaces: {}}") + NETWORK_POLICY.replace(
        "ingress: [{from: [{namespaceSelector: {}}]}]", "ingress: []"
    )
    assert said(outside) == "ALLOW POLICY_ALLOW cnp ingress[0]"


def test_pass_leaves_the_tier() -> None:
    assert said(rules("Pass", "Deny") + NETWORK_POLICY) == "ALLOW POLICY_ALLOW shop/np ingress[0]"
    later = rules("Deny", name="later", priority=2)
    assert said(rules("Pass") + later) == "ALLOW NO_POLICY"


def test_pass_of_admin_leads_to_baseline_where_no_network_policy_selects() -> None:
    base = rules("Deny", name="base", tier="Baseline", priority=0)
    assert said(rules("Pass") + base) == "DENY BASELINE_DENIED base ingress[0]"
    assert said(rules("Pass") + base + NETWORK_POLICY) == "ALLOW POLICY_ALLOW shop/np ingress[0]"


def test_pass_of_baseline_is_open() -> None:
    assert said(rules("Pass", "Deny", tier="Baseline")) == "ALLOW NO_POLICY"


def test_lower_priority_goes_first_whatever_the_names() -> None:
    both = rules("Deny", name="a", priority=7) + rules("Accept", name="b", priority=6)
    assert said(both) == "ALLOW POLICY_ALLOW b ingress[0]"


def test_of_equal_priorities_the_first_name_goes_first() -> None:
    assert said(rules("Deny", name="b") + rules("Accept", name="a")) == (
        "ALLOW POLICY_ALLOW a ingress[0]"
    )
    assert said(rules("Deny", name="a") + rules("Accept", name="b")) == (
        "DENY ADMIN_DENIED a ingress[0]"
    )


def test_tiers_are_not_compared_by_priority() -> None:
    both = rules("Deny", name="a", tier="Baseline", priority=0) + rules(
        "Accept", name="b", priority=1000
    )
    assert said(both) == "ALLOW POLICY_ALLOW b ingress[0]"


def test_a_direction_without_rules_is_not_touched() -> None:
    held = policies(rules("Deny"))
    assert held.chains(workload("shop"), "egress") is None


def test_workloads_of_the_hosts_network_are_neither_subjects_nor_peers() -> None:
    host = replace(workload("dev"), host=True, node_labels=frozenset())
    assert said(rules("Deny"), host) == "ALLOW NO_POLICY"
    held = policies(rules("Deny"))
    assert held.chains(host, "ingress") is None


def test_a_strict_accept_is_not_softened_by_what_comes_after() -> None:
    strict = rules("Accept").replace(
        "{name: cnp}", "{name: cnp, annotations: {mesh.hoplite.io/identity: strict}}"
    )
    assert said(strict + NETWORK_POLICY) == "ALLOW POLICY_ALLOW cnp ingress[0] strict"


EGRESS = """---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: out, annotations: {mesh.hoplite.io/identity: strict}}
spec:
  tier: Admin
  priority: 1
  subject: {pods: {podSelector: {matchLabels: {app: web}}}}
  egress:
    - action: Accept
      to: [{nodes: {matchLabels: {zone: a}}}]
      protocols: [{tcp: {destinationPort: {range: {start: 100, end: 200}}}}]
    - {action: Accept, to: [{networks: [10.0.0.0/8, "fd00::/8"]}]}
    - {action: Accept, to: [{domainNames: ["*.Example.org."]}]}
    - {action: Deny, to: [{networks: [0.0.0.0/0]}, {namespaces: {}}]}
"""


@pytest.mark.parametrize(
    ("to", "port", "expected"),
    [
        (Member(node_labels=frozenset({("zone", "a")})), 200, "egress[0]"),
        (Member(node_labels=frozenset({("zone", "a")})), 201, ""),
        (Member(node_labels=frozenset({("zone", "b")})), 150, ""),
        (Member(blocks=frozenset({"10.0.0.0/8", "0.0.0.0/0"})), 1, "egress[1]"),
        (Member(blocks=frozenset({"fd00::/8"})), 1, "egress[1]"),
        (Member(blocks=frozenset({"0.0.0.0/0"})), 1, "egress[3]"),
        (
            Member(blocks=frozenset({"0.0.0.0/0"}), domains=frozenset({"*.example.org"})),
            1,
            "egress[2]",
        ),
        (workload("dev"), 1, "egress[3]"),
        (WORLD, 1, ""),
    ],
)
def test_egress_peers(to: Member, port: int, expected: str) -> None:
    found = decide(policies(EGRESS), workload("shop", app="web"), to, port)
    assert (found.rule.text if found.rule else "") == expected


def test_who_goes_out_is_known_by_its_cgroup_so_strict_says_nothing() -> None:
    to = Member(blocks=frozenset({"10.0.0.0/8"}))
    assert not decide(policies(EGRESS), workload("shop", app="web"), to).strict


@pytest.mark.parametrize(
    ("written", "pattern"),
    [("WWW.Example.org.", "www.example.org"), ("*.a.b", "*.a.b")],
)
def test_domain_names_are_written_in_one_way(written: str, pattern: str) -> None:
    assert domain_pattern(written) == pattern
