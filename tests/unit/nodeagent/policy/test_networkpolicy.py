"""What a decision about a NetworkPolicy names (test_against_reference.py has all else)."""

from __future__ import annotations

from meshapi.codec import decode
from meshapi.manifests import parse
from meshapi.verdict import Reason, Verdict
from meshapi.wire import MeshSettings
from nodeagent.policy.decisions import Decision, at
from nodeagent.policy.matrix import Matrix
from nodeagent.policy.members import WORLD, Member, PolicyClass, Shared
from nodeagent.policy.policyset import PolicySet
from nodeagent.policy.policyset import policy_set as index

CACHE_POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: cache, namespace: shop}
spec:
  podSelector: {matchLabels: {app: cache}}
  ingress:
  - from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}}]
    ports: [{port: 6379}]
"""


def workload(namespace: str, **labels_: str) -> Member:
    return Member(
        namespace=namespace,
        namespace_labels=frozenset({("kubernetes.io/metadata.name", namespace)}),
        labels=frozenset(labels_.items()),
    )


def policy_set(text: str) -> PolicySet:
    return index([m.resource for m in parse(text, "test")], (), MeshSettings())  # type: ignore[misc]


def decision_at(
    policies_: PolicySet, source: PolicyClass, destination: PolicyClass, port: int
) -> Decision:
    """As the matrix has it, which knows about shared ends too."""
    matrix = Matrix()
    matrix.set_policies(policies_.chains, None)
    matrix.add(1, source, source=True, destination=False)
    matrix.add(2, destination, source=False, destination=False)
    return at(matrix.answer(1, 2), "TCP", port)


def test_a_refusal_names_the_policies_that_closed_the_direction() -> None:
    policies_ = policy_set(CACHE_POLICY)
    refused = decision_at(policies_, workload("dev", app="t"), workload("shop", app="cache"), 6379)
    assert refused.reason is Reason.INGRESS_DENIED
    assert (refused.rule.policy, refused.rule.text) == ("shop/cache", "ingress default")


def test_a_consent_names_its_rule() -> None:
    policies_ = policy_set(CACHE_POLICY)
    allowed = decision_at(policies_, workload("shop"), workload("shop", app="cache"), 6379)
    assert allowed.verdict is Verdict.ALLOW
    assert (allowed.rule.policy, allowed.rule.text) == ("shop/cache", "ingress[0]")


def test_nobody_selected_is_open() -> None:
    policies_ = policy_set(CACHE_POLICY)
    open_ = decision_at(policies_, workload("dev"), workload("shop", app="web"), 80)
    assert (open_.verdict, open_.reason) == (Verdict.ALLOW, Reason.NO_POLICY)


def test_a_shared_end_needs_every_members_consent() -> None:
    policies_ = policy_set(CACHE_POLICY)
    either = Shared(frozenset({(workload("shop"), None), (workload("dev"), None)}))
    refused = decision_at(policies_, either, workload("shop", app="cache"), 6379)
    assert refused.verdict is Verdict.DENY


def test_a_shared_destination_is_asked_at_its_own_ports() -> None:
    policies_ = policy_set(CACHE_POLICY)
    cache = workload("shop", app="cache")
    for reached, verdict in ((6379, Verdict.ALLOW), (80, Verdict.DENY)):
        behind = Shared(frozenset({(cache, reached)}))
        assert decision_at(policies_, workload("shop"), behind, 9999).verdict is verdict


def test_outside_addresses_match_blocks_only() -> None:
    policies_ = policy_set(
        CACHE_POLICY.replace(
            "[{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}}]",
            "[{namespaceSelector: {}}, {ipBlock: {cidr: 10.0.0.0/8}}]",
        )
    )
    cache = workload("shop", app="cache")
    assert decision_at(policies_, WORLD, cache, 6379).verdict is Verdict.DENY
    inside = Member(blocks=frozenset({"10.0.0.0/8"}))
    assert decision_at(policies_, inside, cache, 6379).verdict is Verdict.ALLOW


def test_the_manifest_above_is_valid() -> None:
    assert decode(parse(CACHE_POLICY, "t")[0].document.value).metadata.name == "cache"
