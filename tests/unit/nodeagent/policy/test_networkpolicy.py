"""NetworkPolicy evaluation against a plain reference: port by port, rule by rule, from the text."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from meshapi.codec import decode
from meshapi.manifests import parse
from meshapi.resources import (
    EgressRule,
    IngressRule,
    IPBlock,
    LabelSelector,
    LabelSelectorRequirement,
    NetworkPolicy,
    NetworkPolicySpec,
    ObjectMeta,
    PolicyPeer,
    PolicyPort,
)
from meshapi.verdict import Reason, Verdict
from meshapi.wire import MeshSettings
from nodeagent.policy.blocks import Blocks
from nodeagent.policy.decisions import ALWAYS_OPEN, Answer, Decision, at, both
from nodeagent.policy.matrix import Matrix
from nodeagent.policy.members import WORLD, Member, PolicyClass, Shared
from nodeagent.policy.policyset import PolicySet, mentioned_blocks
from nodeagent.policy.policyset import policy_set as index

# -- the reference: what the NetworkPolicy v1 documentation says, as slowly as it says it ----------


@dataclass(frozen=True)
class Pod:
    namespace: str
    namespace_labels: tuple[tuple[str, str], ...]
    labels: tuple[tuple[str, str], ...]
    ports: tuple[tuple[str, str, int], ...]
    address: str


def reference(
    policies: list[NetworkPolicy], source: Pod, destination: Pod, protocol: str, port: int
) -> Verdict:
    for direction, subject, peer in (
        ("Egress", source, destination),
        ("Ingress", destination, source),
    ):
        applying = [p for p in policies if selects(p, subject) and direction in types(p)]
        if applying and not any(
            allows(p, direction, peer, destination, protocol, port) for p in applying
        ):
            return Verdict.DENY
    return Verdict.ALLOW


def types(policy: NetworkPolicy) -> list[str]:
    if policy.spec.policy_types:
        return list(policy.spec.policy_types)
    return ["Ingress", "Egress"] if policy.spec.egress else ["Ingress"]


def selects(policy: NetworkPolicy, pod: Pod) -> bool:
    return bool(pod.namespace) and (
        policy.metadata.namespace == pod.namespace
        and selector(policy.spec.pod_selector, dict(pod.labels))
    )


def selector(wanted: LabelSelector, labels: dict[str, str]) -> bool:
    for key, value in wanted.match_labels.items():
        if labels.get(key) != value:
            return False
    for requirement in wanted.match_expressions:
        value = labels.get(requirement.key)
        result = {
            "In": value in requirement.values,
            "NotIn": value not in requirement.values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }[requirement.operator]
        if not result:
            return False
    return True


def allows(
    policy: NetworkPolicy, direction: str, peer: Pod, destination: Pod, protocol: str, port: int
) -> bool:
    rules = policy.spec.ingress if direction == "Ingress" else policy.spec.egress
    for rule in rules:
        peers = rule.from_ if isinstance(rule, IngressRule) else rule.to
        peer_fits = not peers or any(peer_is(policy, p, peer) for p in peers)
        port_fits = not rule.ports or any(
            port_is(p, destination, protocol, port) for p in rule.ports
        )
        if peer_fits and port_fits:
            return True
    return False


def peer_is(policy: NetworkPolicy, wanted: PolicyPeer, pod: Pod) -> bool:
    if wanted.ip_block is not None:
        address = ipaddress.ip_address(pod.address)
        inside = address in ipaddress.ip_network(wanted.ip_block.cidr)
        return inside and not any(
            address in ipaddress.ip_network(e) for e in wanted.ip_block.except_
        )
    if not pod.namespace:
        return False
    if wanted.namespace_selector is None:
        namespace_fits = pod.namespace == policy.metadata.namespace
    else:
        namespace_fits = selector(wanted.namespace_selector, dict(pod.namespace_labels))
    return namespace_fits and (
        wanted.pod_selector is None or selector(wanted.pod_selector, dict(pod.labels))
    )


def port_is(wanted: PolicyPort, destination: Pod, protocol: str, port: int) -> bool:
    if wanted.protocol != protocol:
        return False
    if wanted.port is None:
        return True
    if isinstance(wanted.port, str):
        return (wanted.port, protocol, port) in destination.ports
    return wanted.port <= port <= (wanted.end_port or wanted.port)


# -- random policies and pods ----------------------------------------------------------------------

NAMESPACES = ("shop", "dev")
values = st.sampled_from(("a", "b"))
labels = st.dictionaries(st.sampled_from(("app", "tier")), values, max_size=2)
requirements = st.builds(
    lambda key, operator, drawn: LabelSelectorRequirement(
        key=key,
        operator=operator,
        values=tuple(drawn) if operator in ("In", "NotIn") else (),
    ),
    st.sampled_from(("app", "tier")),
    st.sampled_from(("In", "NotIn", "Exists", "DoesNotExist")),
    st.lists(values, min_size=1, max_size=2),
)
selectors = st.builds(
    lambda wanted, expressions: LabelSelector(
        match_labels=wanted, match_expressions=tuple(expressions)
    ),
    st.dictionaries(st.sampled_from(("app", "tier")), values, max_size=1),
    st.lists(requirements, max_size=1),
)
blocks = st.sampled_from(
    (
        IPBlock(cidr="10.0.0.0/8"),
        IPBlock(cidr="10.0.0.0/8", except_=("10.1.0.0/16",)),
        IPBlock(cidr="10.1.2.0/24"),
        IPBlock(cidr="fd00::/8", except_=("fd00:1::/32",)),
        IPBlock(cidr="0.0.0.0/0"),
    )
)
peers = st.one_of(
    st.builds(lambda pod: PolicyPeer(pod_selector=pod), selectors),
    st.builds(lambda ns: PolicyPeer(namespace_selector=ns), selectors),
    st.builds(
        lambda ns, p: PolicyPeer(namespace_selector=ns, pod_selector=p), selectors, selectors
    ),
    st.builds(lambda block: PolicyPeer(ip_block=block), blocks),
)
ports = st.one_of(
    st.builds(lambda p: PolicyPort(protocol=p), st.sampled_from(("TCP", "UDP"))),
    st.builds(lambda n: PolicyPort(port=n), st.sampled_from((80, 443, "http", "dns"))),
    st.builds(lambda n: PolicyPort(port=n, protocol="UDP"), st.sampled_from((53, "dns"))),
    st.builds(lambda n: PolicyPort(port=n, end_port=n + 1000), st.sampled_from((1, 60, 8000))),
)
peer_lists = st.lists(peers, max_size=2).map(tuple)
port_lists = st.lists(ports, max_size=2).map(tuple)
policies = st.builds(
    lambda number, namespace, subject, kinds, ingress, egress: NetworkPolicy(
        api_version="networking.k8s.io/v1",
        kind="NetworkPolicy",
        metadata=ObjectMeta(name=f"p{number}", namespace=namespace),
        spec=NetworkPolicySpec(
            pod_selector=subject,
            policy_types=tuple(kinds),
            ingress=tuple(IngressRule(from_=f, ports=p) for f, p in ingress),
            egress=tuple(EgressRule(to=t, ports=p) for t, p in egress),
        ),
    ),
    st.integers(0, 99),
    st.sampled_from(NAMESPACES),
    selectors,
    st.lists(st.sampled_from(("Ingress", "Egress")), unique=True, max_size=2),
    st.lists(st.tuples(peer_lists, port_lists), max_size=2),
    st.lists(st.tuples(peer_lists, port_lists), max_size=2),
)
pods = st.builds(
    Pod,
    st.sampled_from((*NAMESPACES, "")),
    st.dictionaries(st.just("tier"), values, max_size=1).map(lambda d: tuple(sorted(d.items()))),
    labels.map(lambda d: tuple(sorted(d.items()))),
    st.lists(
        st.sampled_from((("http", "TCP", 8080), ("dns", "UDP", 53), ("dns", "TCP", 53))), max_size=2
    ).map(tuple),
    st.sampled_from(("10.1.2.3", "10.2.0.1", "192.0.2.1", "fd00::1", "fd00:1::1")),
)
PORTS = (0, 1, 53, 60, 80, 443, 1001, 8000, 8080, 9000, 9001, 65535)


def member(pod: Pod, known: Blocks) -> Member:
    held = known.holding_address(pod.address)
    if not pod.namespace:
        return Member(blocks=held)
    return Member(
        namespace=pod.namespace,
        namespace_labels=frozenset(pod.namespace_labels),
        labels=frozenset(pod.labels),
        ports=frozenset(pod.ports),
        blocks=held,
    )


def answer(policies_: PolicySet, source: Member, destination: Member) -> Answer:
    """What both directions together allow."""
    egress = policies_.chains(source, "egress")
    ingress = policies_.chains(destination, "ingress")
    return both(
        egress.answer(destination) if egress else ALWAYS_OPEN,
        ingress.answer(source) if ingress else ALWAYS_OPEN,
    )


@settings(max_examples=400, deadline=None)
@given(st.lists(policies, max_size=4), pods, pods, st.sampled_from(("TCP", "UDP")))
def test_agrees_with_the_reference(
    drawn: list[NetworkPolicy], source: Pod, destination: Pod, protocol: str
) -> None:
    if not destination.namespace:  # only workloads have named ports
        destination = replace(destination, ports=())
    known = mentioned_blocks(drawn, ())
    got = answer(
        index(drawn, (), MeshSettings()), member(source, known), member(destination, known)
    )
    for port in PORTS:
        expected = reference(drawn, source, destination, protocol, port)
        assert at(got, protocol, port).verdict == expected, port  # type: ignore[arg-type]


# -- what a refusal says ---------------------------------------------------------------------------

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
    matrix.set_policies(policies_.chains, lambda _: True)
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
