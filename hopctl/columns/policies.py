"""Columns of what allows and refuses: the policies, Quarantine and BlockList. Pure."""

from __future__ import annotations

from hopctl.columns.cells import Columns, Context, age, condition, messages, pairs, selector, text
from hopctl.output import Cell
from meshapi.resources import (
    AuthorizationPolicy,
    BlockList,
    ClusterNetworkPolicy,
    NetworkPolicy,
    Quarantine,
)
from meshapi.resources.containment import AllowedPeer
from meshapi.resources.options import Drain, Keep, Policy, options_of

_SHOWN = 5  # address blocks of a list that has more


def _networkpolicy(policy: NetworkPolicy, _context: Context) -> list[Cell]:
    spec = policy.spec
    return [
        Cell(selector(spec.pod_selector)),
        text(",".join(spec.policy_types)),
        Cell(f"{len(spec.ingress)} in, {len(spec.egress)} out"),
        _mode(policy),
        condition(policy.status.conditions, "Programmed"),
    ]


def _clusternetworkpolicy(policy: ClusterNetworkPolicy, _context: Context) -> list[Cell]:
    spec = policy.spec
    return [
        Cell(spec.tier),
        Cell(str(spec.priority)),
        Cell(_subject(policy)),
        Cell(f"{len(spec.ingress)} in, {len(spec.egress)} out"),
        _mode(policy),
        condition(policy.status.conditions, "Programmed"),
    ]


def _subject(policy: ClusterNetworkPolicy) -> str:
    pods, namespaces = policy.spec.subject.pods, policy.spec.subject.namespaces
    if pods is not None:
        return f"{selector(pods.namespace_selector)} / {selector(pods.pod_selector)}"
    return selector(namespaces) if namespaces is not None else "-"


def _authorizationpolicy(policy: AuthorizationPolicy, _context: Context) -> list[Cell]:
    spec = policy.spec
    return [
        Cell(spec.action),
        Cell(pairs(spec.selector.match_labels) or "(all)"),
        Cell(str(len(spec.rules))),
        _mode(policy),
        condition(policy.status.conditions, "Programmed"),
    ]


def _mode(policy: Policy) -> Cell:
    """``enforce`` or ``audit``, and what else its annotations ask for."""
    options = options_of(policy)
    words = ["audit" if options.audit else "enforce"]
    words += ["strict"] if options.strict else []
    match options.established:
        case Drain(seconds):
            words.append(f"drain {seconds}s")
        case Keep():
            words.append("keep")
    return Cell(",".join(words), "warn" if options.audit else "")


def _policy_wide(policy: Policy, context: Context) -> list[Cell]:
    cut = Cell(str(policy.status.connections_cut))
    return [cut, messages(policy.status.conditions), age(policy, context)]


def _quarantine(quarantine: Quarantine, _context: Context) -> list[Cell]:
    spec, said = quarantine.spec, quarantine.status.conditions
    return [
        Cell(spec.workload),
        text(",".join(_peer(peer) for peer in spec.allow_from)),
        text(spec.reason),
        condition(said, "ResolvedRefs"),
        condition(said, "Programmed"),
    ]


def _peer(peer: AllowedPeer) -> str:
    return peer.cidr or f"{peer.namespace}/{peer.workload}"


def _blocklist(blocks: BlockList, _context: Context) -> list[Cell]:
    cidrs = blocks.spec.cidrs
    more = f" and {len(cidrs) - _SHOWN} more" if len(cidrs) > _SHOWN else ""
    return [
        Cell(",".join(cidrs[:_SHOWN]) + more),
        text(blocks.spec.reason),
        condition(blocks.status.conditions, "Programmed"),
    ]


def _contained_wide(of: Quarantine | BlockList, context: Context) -> list[Cell]:
    cut = Cell(str(of.status.connections_cut))
    return [cut, messages(of.status.conditions), age(of, context)]


_WIDE = ("CUT", "MESSAGE", "AGE")

NETWORKPOLICY = Columns(
    ("SELECTOR", "TYPES", "RULES", "MODE", "PROGRAMMED"), _networkpolicy, _WIDE, _policy_wide
)
CLUSTERNETWORKPOLICY = Columns(
    ("TIER", "PRIORITY", "SUBJECT", "RULES", "MODE", "PROGRAMMED"),
    _clusternetworkpolicy,
    _WIDE,
    _policy_wide,
)
AUTHORIZATIONPOLICY = Columns(
    ("ACTION", "SELECTOR", "RULES", "MODE", "PROGRAMMED"),
    _authorizationpolicy,
    _WIDE,
    _policy_wide,
)
QUARANTINE = Columns(
    ("WORKLOAD", "ALLOW-FROM", "REASON", "RESOLVEDREFS", "PROGRAMMED"),
    _quarantine,
    _WIDE,
    _contained_wide,
)
BLOCKLIST = Columns(("CIDRS", "REASON", "PROGRAMMED"), _blocklist, _WIDE, _contained_wide)
