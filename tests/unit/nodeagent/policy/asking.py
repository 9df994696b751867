"""Policies from YAML, and what they say of two members."""

from __future__ import annotations

from meshapi.manifests import parse
from meshapi.resources import Quarantine
from meshapi.wire import MeshSettings
from nodeagent.policy.decisions import ALWAYS_OPEN, Decision, Protocol, at, both
from nodeagent.policy.members import Member
from nodeagent.policy.policyset import PolicySet, policy_set


def workload(namespace: str, account: str = "default", **labels: str) -> Member:
    return Member(
        namespace=namespace,
        namespace_labels=frozenset({("kubernetes.io/metadata.name", namespace)}),
        labels=frozenset(labels.items()),
        service_account=account,
    )


def policies(text: str, mesh: MeshSettings | None = None) -> PolicySet:
    found = [m.resource for m in parse(text, "test")]
    quarantines = [r for r in found if isinstance(r, Quarantine)]
    others = [r for r in found if not isinstance(r, Quarantine)]
    return policy_set(others, quarantines, mesh or MeshSettings())  # type: ignore[arg-type]


def decide(
    held: PolicySet,
    source: Member,
    destination: Member,
    port: int = 80,
    protocol: Protocol = "TCP",
) -> Decision:
    """What both directions come to."""
    egress = held.chains(source, "egress")
    ingress = held.chains(destination, "ingress")
    answer = both(
        egress.answer(destination) if egress else ALWAYS_OPEN,
        ingress.answer(source) if ingress else ALWAYS_OPEN,
    )
    return at(answer, protocol, port)


def brief(decision: Decision) -> str:
    """Verdict, reason and what decided: ``DENY ADMIN_DENIED low ingress[0]``."""
    rule = f" {decision.rule.policy} {decision.rule.text}" if decision.rule else ""
    strict = " strict" if decision.strict else ""
    return f"{decision.verdict.name} {decision.reason.name}{rule}{strict}"
