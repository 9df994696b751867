"""Answers as the kernel looks them up: one decision, or a list of port rules. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from nodeagent import layout
from nodeagent.desired.numbers import Numbering
from nodeagent.layout import DECISION, DECISION_STRICT, PORT_RULE_KEY, port_bytes
from nodeagent.policy.decisions import PROTOCOLS, Answer, Decision, Rule, Segments
from nodeagent.policy.ports import longest_prefix_table

_NUMBERS = {"TCP": layout.PROTOCOLS["TCP"], "UDP": layout.PROTOCOLS["UDP"], "OTHER": 0}
_LIST_BITS, _PROTOCOL_BITS = 32, 48  # how much of a key a list's and a protocol's default fix


@dataclass(frozen=True)
class Encoded:
    """``decision`` for the policy map; ``rules`` for the port rules, if it depends on the port."""

    decision: bytes
    rules: dict[bytes, bytes]


class Encoder:
    """Encodes answers and numbers the rules in them; equal answers are one list of port rules."""

    def __init__(self) -> None:
        self.rules: dict[int, Rule] = {}
        self._rule_numbers = Numbering()
        self._list_numbers = Numbering()
        self._done: dict[Answer, Encoded] = {}

    def encode(self, answer: Answer) -> Encoded:
        found = self._done.get(answer)
        if found is None:
            found = self._done[answer] = self._encode(answer)
        return found

    def forget(self, answer: Answer) -> Encoded:
        """Nobody has this answer any more; what it was encoded as."""
        return self._done.pop(answer)

    def _encode(self, answer: Answer) -> Encoded:
        decisions = {segment.value for segments in answer.parts for segment in segments}
        if len(decisions) == 1:
            return Encoded(self._decision(decisions.pop()), {})
        number = self._list_numbers.of(repr(answer.parts))
        usual = answer.of("OTHER")[0].value  # no ports, so one for all
        rules = {_key(_LIST_BITS, number, 0, 0): self._decision(usual)}
        for protocol, segments in zip(PROTOCOLS, answer.parts, strict=True):
            rules |= self._protocol(number, _NUMBERS[protocol], segments, usual)
        return Encoded(self._decision(usual, number), rules)

    def _protocol(
        self, number: int, protocol: int, segments: Segments, usual: Decision
    ) -> dict[bytes, bytes]:
        table = longest_prefix_table(segments)
        if table == {(0, 0): usual}:
            return {}
        return {
            _key(_PROTOCOL_BITS + length, number, protocol, port): self._decision(decision)
            for (port, length), decision in table.items()
        }

    def rule_number(self, rule: Rule) -> int:
        """The number by which the kernel knows a rule."""
        number = self._rule_numbers.of(rule)
        self.rules[number] = rule
        return number

    def _decision(self, decision: Decision, ports: int = 0) -> bytes:
        rule = 0 if decision.rule is None else self.rule_number(decision.rule)
        flags = DECISION_STRICT if decision.strict else 0
        return DECISION.pack(rule, ports, decision.verdict, decision.reason, flags)


def _key(bits: int, number: int, protocol: int, port: int) -> bytes:
    return PORT_RULE_KEY.pack(bits, number, protocol, port_bytes(port))
