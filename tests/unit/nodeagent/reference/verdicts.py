"""What policies come to, and the annotations that change it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from meshapi.resources import AuthorizationPolicy, Resource
from meshapi.verdict import Reason, Verdict
from tests.unit.nodeagent.reference.mesh import Direction, Policy, full_name

MODE, IDENTITY = "mesh.hoplite.io/mode", "mesh.hoplite.io/identity"
DRY_RUN = "istio.io/dry-run"


class Refusal(NamedTuple):
    """A reason to refuse, and where it is written: any of the rules, each with its policies.

    A rule is ``ingress[0]``, ``rules[1]`` or the like, or what follows when none matches.
    """

    reason: Reason
    rules: frozenset[tuple[str, frozenset[str], str]]  # kind, policies, rule


def refusal(reason: Reason, policies: Iterable[Resource], rule: str) -> Refusal:
    found = list(policies)
    names = frozenset(full_name(p) for p in found)
    return Refusal(reason, frozenset({(found[0].kind, names, rule)}))


class Decision(NamedTuple):
    """``strict``: only for a caller whose identity is authenticated."""

    verdict: Verdict
    strict: bool = False
    refusals: tuple[Refusal, ...] = ()  # why it is refused or, with AUDIT, would be


# The refusal if there is one; otherwise whether it is allowed to authenticated callers only.
Consent = tuple[Refusal | None, bool]
OPEN: Consent = (None, False)


def audits(policy: Policy) -> bool:
    notes = policy.metadata.annotations
    dry = isinstance(policy, AuthorizationPolicy) and notes.get(DRY_RUN) == "true"
    return dry or notes.get(MODE) == "audit"


def is_strict(policy: Policy, direction: Direction = "ingress") -> bool:
    """Whom it lets in must be authenticated; who goes out is its own workload."""
    return direction == "ingress" and policy.metadata.annotations.get(IDENTITY) == "strict"
