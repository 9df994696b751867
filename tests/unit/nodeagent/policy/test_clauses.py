from __future__ import annotations

import pytest

from meshapi.verdict import Reason, Verdict
from nodeagent.policy.clauses import Action, Clause, Ports, PortWish, answer, closing
from nodeagent.policy.conditions import EVERYBODY, NOBODY
from nodeagent.policy.decisions import ALWAYS_OPEN, Decision, Protocol, Rule, at
from nodeagent.policy.members import WORLD, Member

WEB = Member(
    namespace="shop",
    ports=frozenset({("http", "TCP", 8080), ("dns", "UDP", 53), ("dns", "TCP", 54)}),
)


def clause(name: str, action: Action, **more: object) -> Clause:
    return Clause(Rule("Any", name, ""), action, Reason.NONE, EVERYBODY, **more)  # type: ignore[arg-type]


def decided(*stages: tuple[Clause, ...], port: int = 80, protocol: Protocol = "TCP") -> str:
    """The verdict, and the clause that gave it; ``open`` if none did."""
    found: Decision = at(answer(stages, WORLD, WEB), protocol, port)
    who = found.rule.policy if found.rule else "open"
    return f"{found.verdict.name} {who}{' strict' if found.strict else ''}"


ALLOW, DENY = clause("allow", Action.ALLOW), clause("deny", Action.DENY)
PASS = clause("pass", Action.PASS)


def test_the_first_clause_that_matches_decides() -> None:
    assert decided((ALLOW, DENY)) == "ALLOW allow"
    assert decided((DENY, ALLOW)) == "DENY deny"


def test_a_clause_that_does_not_match_decides_nothing() -> None:
    nobody = clause("nobody", Action.DENY)
    nobody = Clause(nobody.rule, nobody.action, nobody.reason, NOBODY)
    assert decided((nobody, ALLOW)) == "ALLOW allow"
    assert decided((nobody,)) == "ALLOW open"


def test_no_chain_is_open() -> None:
    assert answer((), WORLD, WEB) is ALWAYS_OPEN


def test_pass_leads_to_the_next_stage_and_not_to_the_next_clause() -> None:
    assert decided((PASS, DENY), (ALLOW,)) == "ALLOW allow"
    assert decided((PASS, ALLOW), (DENY,)) == "DENY deny"


def test_pass_in_the_last_stage_is_open() -> None:
    assert decided((PASS, DENY)) == "ALLOW open"


def test_pass_is_for_its_own_ports() -> None:
    some = clause("pass", Action.PASS, ports=Ports((PortWish("TCP", 80, 81),)))
    verdicts = {port: decided((some, DENY), (ALLOW,), port=port) for port in (79, 80, 81, 82)}
    assert verdicts == {79: "DENY deny", 80: "ALLOW allow", 81: "ALLOW allow", 82: "DENY deny"}


def test_who_is_passed_twice_reaches_the_third_stage() -> None:
    assert decided((PASS,), (PASS,), (DENY,)) == "DENY deny"


def test_audit_counts_only_for_what_would_be() -> None:
    audit = clause("audit", Action.DENY, audit=True)
    assert decided((audit,)) == "AUDIT audit"
    assert decided((audit, DENY)) == "DENY deny"
    assert decided((clause("audit", Action.ALLOW, audit=True), DENY)) == "DENY deny"


def test_what_audit_would_pass_on_is_told_by_who_would_refuse() -> None:
    assert decided((clause("audit", Action.PASS, audit=True), ALLOW), (DENY,)) == "AUDIT deny"


def test_a_strict_consent_is_not_softened_by_a_later_rule() -> None:
    strict = clause("strict", Action.ALLOW, strict=True)
    assert decided((strict,)) == "ALLOW strict strict"
    assert decided((strict,), (ALLOW,)) == "ALLOW strict strict"


def test_strict_says_nothing_of_refusals() -> None:
    assert decided((clause("refusal", Action.DENY, strict=True),)) == "DENY refusal"


def test_strict_stays_where_audit_would_refuse() -> None:
    strict = clause("strict", Action.ALLOW, strict=True)
    audit = clause("audit", Action.DENY, audit=True)
    assert decided((audit, strict)) == "AUDIT audit strict"


# -- ports -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "tcp", "udp"),
    [
        (PortWish("TCP", 80, 80), [80], []),
        (PortWish(None, 53, 54), [53, 54], [53, 54]),
        (PortWish("TCP", name="http"), [8080], []),
        (PortWish("UDP", name="http"), [], []),
        (PortWish(None, name="dns"), [54], [53]),
        (PortWish(None, name="absent"), [], []),
    ],
)
def test_a_wish_is_for_a_protocol(wish: PortWish, tcp: list[int], udp: list[int]) -> None:
    allow = clause("allow", Action.ALLOW, ports=Ports((wish,)))
    for protocol, expected in (("TCP", tcp), ("UDP", udp), ("OTHER", [])):
        asked = (52, 53, 54, 55, 79, 80, 81, 8079, 8080, 8081)
        got = [
            port
            for port in asked
            if decided((allow, DENY), port=port, protocol=protocol) == "ALLOW allow"  # type: ignore[arg-type]
        ]
        assert got == expected


def test_names_are_those_of_the_destination() -> None:
    allow = clause("allow", Action.ALLOW, ports=Ports((PortWish("TCP", name="http"),)))
    nobody = answer(((allow, DENY),), WEB, WORLD)
    assert {at(nobody, "TCP", port).verdict for port in (80, 8080)} == {Verdict.DENY}


def test_excluded_ports_are_taken_out() -> None:
    ports = Ports((PortWish("TCP", 80, 90),), excluded=(PortWish(None, 85, 85),))
    allow = clause("allow", Action.ALLOW, ports=ports)
    got = [p for p in range(79, 92) if decided((allow, DENY), port=p) == "ALLOW allow"]
    assert got == [80, 81, 82, 83, 84, 86, 87, 88, 89, 90]


def test_only_tcp_and_udp_have_ports() -> None:
    every_port = clause("allow", Action.ALLOW, ports=Ports((PortWish(None, 0, 65535),)))
    no_port = clause("allow", Action.ALLOW, ports=Ports(excluded=(PortWish(None, 80, 80),)))
    assert decided((every_port, DENY), protocol="OTHER") == "DENY deny"
    assert decided((no_port, DENY), protocol="OTHER") == "ALLOW allow"


# -- what closes -----------------------------------------------------------------------------------


def named(**audits: bool) -> list[tuple[str, bool]]:
    found = closing("Any", audits, "default", Reason.INGRESS_DENIED)
    return [(c.rule.policy, c.audit) for c in found]


def test_a_refusal_is_in_the_name_of_those_that_enforce() -> None:
    assert named(a=False, b=False) == [("a,b", False)]
    assert named(a=True, b=False) == [("a,b", True), ("b", False)]
    assert named(a=True, b=True) == [("a,b", True)]
    assert named() == []
