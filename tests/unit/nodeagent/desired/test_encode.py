from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshapi.verdict import Reason, Verdict
from nodeagent.desired.encode import Encoder
from nodeagent.layout import DECISION, POLICY_KEY
from nodeagent.policy.decisions import ALWAYS_OPEN, OPEN, PROTOCOLS, Answer, Decision, Rule, at
from nodeagent.policy.ports import LAST, Segment
from tests.unit.nodeagent.desired.model import OPEN as NOTHING
from tests.unit.nodeagent.desired.model import Kernel, Outcome, protocol_number

REFUSED = Decision(Verdict.DENY, Reason.INGRESS_DENIED, Rule("NetworkPolicy", "a/b", "default"))
STRICT = Decision(Verdict.ALLOW, Reason.POLICY_ALLOW, Rule("NetworkPolicy", "a/c", "x"), True)
AUDIT = Decision(Verdict.AUDIT, Reason.WOULD_DENY, Rule("NetworkPolicy", "a/d", "x"))


def answer(*parts: list[tuple[int, Decision]]) -> Answer:
    """For each protocol, from which port on what holds."""
    whole = []
    for part in parts:
        firsts = [first for first, _ in part]
        lasts = [first - 1 for first in firsts[1:]] + [LAST]
        segments = zip(firsts, lasts, part, strict=True)
        whole.append(tuple(Segment(f, last, decision) for f, last, (_, decision) in segments))
    return Answer(tuple(whole))


def looked_up(answer_: Answer, protocol: str, port: int, encoder: Encoder | None = None) -> Outcome:
    """As the kernel does, for a pair of which only the destination is closed."""
    encoded = (encoder or Encoder()).encode(answer_)
    tables = {
        "policy": {POLICY_KEY.pack(1, 2): encoded.decision},
        "port_rules": encoded.rules,
    }
    return Kernel(tables).look_up((1, False), (2, True), protocol_number(protocol), port)


def test_one_decision_for_all_needs_no_list() -> None:
    encoded = Encoder().encode(ALWAYS_OPEN)
    assert encoded.rules == {}
    assert DECISION.unpack(encoded.decision) == (0, 0, Verdict.ALLOW, Reason.NO_POLICY, 0)


def test_a_decision_that_depends_on_the_port_names_a_list() -> None:
    by_port = answer([(0, REFUSED), (80, STRICT), (82, REFUSED)], [(0, REFUSED)], [(0, REFUSED)])
    encoded = Encoder().encode(by_port)
    assert DECISION.unpack(encoded.decision)[1] != 0
    assert encoded.rules


def test_what_is_strict_is_flagged() -> None:
    by_port = answer([(0, STRICT), (80, REFUSED)], [(0, AUDIT)], [(0, OPEN)])
    assert looked_up(by_port, "TCP", 79).strict
    assert not looked_up(by_port, "TCP", 80).strict
    assert looked_up(by_port, "UDP", 5).verdict is Verdict.AUDIT
    assert looked_up(by_port, "OTHER", 5) == NOTHING


def test_equal_answers_are_one_list_and_others_another() -> None:
    encoder = Encoder()
    one = answer([(0, REFUSED), (80, OPEN)], [(0, OPEN)], [(0, OPEN)])
    same = answer([(0, REFUSED), (80, OPEN)], [(0, OPEN)], [(0, OPEN)])
    other = answer([(0, REFUSED), (81, OPEN)], [(0, OPEN)], [(0, OPEN)])
    assert encoder.encode(one) == encoder.encode(same)
    assert not encoder.encode(one).rules.keys() & encoder.encode(other).rules.keys()


def test_numbers_are_taken_from_content() -> None:
    by_port = answer([(0, REFUSED), (80, OPEN)], [(0, OPEN)], [(0, OPEN)])
    second = Encoder()
    second.encode(answer([(0, STRICT)], [(0, OPEN)], [(0, AUDIT)]))
    assert Encoder().encode(by_port) == second.encode(by_port)


def test_rules_are_told_by_their_numbers() -> None:
    encoder = Encoder()
    outcome = looked_up(answer([(0, REFUSED)], [(0, OPEN)], [(0, OPEN)]), "TCP", 1, encoder)
    assert encoder.rules[outcome.rule] == REFUSED.rule


def test_what_is_forgotten_was_known() -> None:
    encoder = Encoder()
    encoder.encode(ALWAYS_OPEN)
    encoder.forget(ALWAYS_OPEN)
    with pytest.raises(KeyError):
        encoder.forget(ALWAYS_OPEN)


_parts = st.lists(
    st.tuples(st.integers(1, LAST), st.sampled_from((OPEN, REFUSED, STRICT, AUDIT))),
    max_size=4,
    unique_by=lambda part: part[0],
).flatmap(
    lambda rest: st.sampled_from((OPEN, REFUSED)).map(
        lambda first: [(0, first), *sorted(rest, key=lambda part: part[0])]
    )
)
_whole = st.sampled_from((OPEN, REFUSED, STRICT)).map(lambda decision: [(0, decision)])


@given(_parts, _parts, _whole, st.data())
def test_every_port_of_every_protocol_is_looked_up_as_it_was_meant(
    tcp: list[tuple[int, Decision]],
    udp: list[tuple[int, Decision]],
    other: list[tuple[int, Decision]],
    data: st.DataObject,
) -> None:
    meant = answer(tcp, udp, other)
    edges = {port + near for port, _ in (*tcp, *udp) for near in (-1, 0, 1)}
    ports = {p for p in edges if 0 < p <= LAST} | {1, LAST, data.draw(st.integers(1, LAST))}
    encoder = Encoder()
    for protocol in PROTOCOLS:
        for port in ports:
            expected, got = at(meant, protocol, port), looked_up(meant, protocol, port, encoder)
            assert (got.verdict, got.reason, got.strict) == (
                expected.verdict,
                expected.reason,
                expected.strict,
            )
            assert encoder.rules.get(got.rule) == expected.rule
