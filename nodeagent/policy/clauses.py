"""Rules of every kind of policy in one form, and how they decide.

A chain is a list of stages, a stage a list of clauses. The first clause of a stage that matches
decides; PASS, or no match, leads to the next stage; what no stage has decided is open.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from meshapi.verdict import Reason, Verdict
from nodeagent.policy.conditions import EVERYBODY, Condition
from nodeagent.policy.decisions import (
    ALWAYS_OPEN,
    OPEN,
    PROTOCOLS,
    Answer,
    Decision,
    Protocol,
    Rule,
    answer_of,
    audited,
)
from nodeagent.policy.members import Member
from nodeagent.policy.ports import EVERY_PORT, Range, intersect, joined, subtract


class Action(Enum):
    ALLOW = "ALLOW"
    DENY = "DENY"
    PASS = "PASS"  # noqa: S105 - not a password


@dataclass(frozen=True)
class PortWish:
    """One entry of a rule's ports: a range, or the name of a port of the destination."""

    protocol: Protocol | None  # None: TCP and UDP
    first: int = 0
    last: int = 0
    name: str = ""

    def ranges(self, destination: Member, protocol: Protocol) -> Iterator[Range]:
        if protocol == "OTHER" or self.protocol not in (None, protocol):
            return
        if not self.name:
            yield self.first, self.last
            return
        for name, named_protocol, number in destination.ports:
            if (name, named_protocol) == (self.name, protocol):
                yield number, number


@dataclass(frozen=True)
class Ports:
    """Which ports a rule is about: those wished (none: every one) but for those excluded."""

    wished: tuple[PortWish, ...] = ()
    excluded: tuple[PortWish, ...] = ()

    def ranges(self, destination: Member, protocol: Protocol) -> tuple[Range, ...]:
        ranges: tuple[Range, ...] = EVERY_PORT
        if self.wished:
            ranges = joined(r for w in self.wished for r in w.ranges(destination, protocol))
        for wish in self.excluded:
            ranges = subtract(ranges, wish.ranges(destination, protocol))
        return ranges

    @property
    def names(self) -> frozenset[str]:
        return frozenset(w.name for w in (*self.wished, *self.excluded) if w.name)


ANY_PORT = Ports()


@dataclass(frozen=True)
class Clause:
    """One rule. ``audit``: it counts only for what would be. ``strict``: what it allows, it allows
    to authenticated callers only; others are refused, and no later rule is asked.
    """

    rule: Rule
    action: Action
    reason: Reason
    peers: Condition
    ports: Ports = ANY_PORT
    strict: bool = False
    audit: bool = False

    @property
    def decision(self) -> Decision:
        if self.action is Action.ALLOW:
            return Decision(Verdict.ALLOW, self.reason, self.rule, self.strict)
        return Decision(Verdict.DENY, self.reason, self.rule)


Stage = tuple[Clause, ...]
Chain = tuple[Stage, ...]


def permissive_first(consents: Iterable[Clause]) -> Iterator[Clause]:
    """Consents of which any one is enough, in the order in which they ask least of a caller."""
    yield from sorted(consents, key=lambda clause: clause.strict)


def closing(kind: str, policies: Mapping[str, bool], text: str, reason: Reason) -> Iterator[Clause]:
    """What follows where no rule of policies matches; ``policies`` says which are in audit mode.

    These are named only in what would be: a refusal is never theirs.
    """
    every = ",".join(policies)
    enforcing = ",".join(name for name, audit in policies.items() if not audit)
    if every != enforcing:
        yield Clause(Rule(kind, every, text), Action.DENY, reason, EVERYBODY, audit=True)
    if enforcing:
        yield Clause(Rule(kind, enforcing, text), Action.DENY, reason, EVERYBODY)


def clauses(chain: Chain) -> Iterator[Clause]:
    for stage in chain:
        yield from stage


def answer(chain: Chain, peer: Member, destination: Member) -> Answer:
    """The chain's decisions for a peer; ``destination`` is whichever end has the ports."""
    if not chain:
        return ALWAYS_OPEN
    found = _answer(chain, peer, destination, audit=False)
    if any(c.audit for c in clauses(chain)):
        found = audited(found, _answer(chain, peer, destination, audit=True))
    return found


def _answer(chain: Chain, peer: Member, destination: Member, *, audit: bool) -> Answer:
    matching = [
        [clause for clause in stage if (audit or not clause.audit) and clause.peers.matches(peer)]
        for stage in chain
    ]
    return answer_of(_decided(matching, destination, protocol) for protocol in PROTOCOLS)


def _decided(
    matching: list[list[Clause]], destination: Member, protocol: Protocol
) -> Iterator[tuple[Range, Decision]]:
    undecided: tuple[Range, ...] = EVERY_PORT
    for stage in matching:
        passed: tuple[Range, ...] = ()
        for clause in stage:
            hit = intersect(undecided, clause.ports.ranges(destination, protocol))
            undecided = subtract(undecided, hit)
            if clause.action is Action.PASS:
                passed += hit
                continue
            for part in hit:
                yield part, clause.decision
        undecided += passed
    for part in undecided:
        yield part, OPEN
