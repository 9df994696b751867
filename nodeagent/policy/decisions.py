"""Decisions, and answers: the decision for every protocol and port."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from meshapi.verdict import Reason, Verdict
from nodeagent.policy.ports import LAST, Range, Segment, merge, painted

Direction = Literal["ingress", "egress"]
Protocol = Literal["TCP", "UDP", "OTHER"]

PROTOCOLS: tuple[Protocol, ...] = ("TCP", "UDP", "OTHER")


@dataclass(frozen=True, order=True)
class Rule:
    """What decided: a rule of a policy, or what follows when none of its rules matches."""

    kind: str
    policy: (
        str  # [namespace/]name; several, comma-separated, where a direction is closed by several
    )
    text: str  # e.g. ingress[0], or "ingress default"


@dataclass(frozen=True)
class Decision:
    """``strict``: only for a caller whose identity is authenticated; others are refused."""

    verdict: Verdict
    reason: Reason
    rule: Rule | None = None
    strict: bool = False

    @property
    def allows(self) -> bool:
        return self.verdict is not Verdict.DENY


OPEN = Decision(Verdict.ALLOW, Reason.NO_POLICY)

Segments = tuple[Segment[Decision], ...]


@dataclass(frozen=True)
class Answer:
    """The decision for every protocol and port; ``parts`` are in the order of PROTOCOLS."""

    parts: tuple[Segments, ...]
    _hash: int = field(init=False, repr=False, compare=False, default=0)

    def __post_init__(self) -> None:
        """Answers are looked up far more often than made: their hash is computed once."""
        object.__setattr__(self, "_hash", hash(self.parts))

    def __hash__(self) -> int:
        return self._hash

    def of(self, protocol: Protocol) -> Segments:
        return self.parts[PROTOCOLS.index(protocol)]


ALWAYS_OPEN = Answer(((Segment(0, LAST, OPEN),),) * len(PROTOCOLS))


def at(answer: Answer, protocol: Protocol, port: int) -> Decision:
    """The decision for one protocol and port."""
    return next(s.value for s in answer.of(protocol) if s.first <= port <= s.last)


def at_port(answer: Answer, port: int) -> Answer:
    """The answer of somebody who is reached on ``port`` whatever port was dialled."""
    return Answer(tuple((Segment(0, LAST, at(answer, protocol, port)),) for protocol in PROTOCOLS))


def both(first: Answer, second: Answer) -> Answer:
    """What holds when two must consent."""
    if first is ALWAYS_OPEN:
        return second
    if second is ALWAYS_OPEN:
        return first
    return _merged(first, second, _stricter)


def audited(enforced: Answer, audit: Answer) -> Answer:
    """``enforced``, with what ``audit`` would refuse marked."""
    return _merged(enforced, audit, _audited)


def answer_of(parts: Iterable[Iterable[tuple[Range, Decision]]]) -> Answer:
    """An answer from disjoint ranges, per protocol, that cover every port."""
    return Answer(tuple(painted(part) for part in parts))


def _merged(
    first: Answer, second: Answer, choose: Callable[[Decision, Decision], Decision]
) -> Answer:
    pairs = zip(first.parts, second.parts, strict=True)
    return Answer(tuple(merge(one, other, choose) for one, other in pairs))


def _stricter(first: Decision, second: Decision) -> Decision:
    """The first refusal, or else the more telling consent; strict if one of them is."""
    if not first.allows:
        return first
    if not second.allows:
        return second
    telling = first if first.verdict is Verdict.AUDIT or second.rule is None else second
    strict = first.strict or second.strict
    return telling if telling.strict == strict else replace(telling, strict=strict)


def _audited(enforced: Decision, audit: Decision) -> Decision:
    if not enforced.allows or audit.allows:
        return enforced
    return replace(enforced, verdict=Verdict.AUDIT, reason=Reason.WOULD_DENY, rule=audit.rule)
