"""Queries in, answers out, as octets; scapy reads them too, as a second opinion."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tsig
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSRROPT, DNSRRSOA, DNSRRSRV
from scapy.packet import NoPayload

from nodeagent.dns.decide import Forward, Reply, decide
from nodeagent.dns.message import (
    LONGEST_DATAGRAM,
    Question,
    query_from,
    read,
    reply_to,
    write,
)
from nodeagent.dns.zone import Answer, Target, Zone

APEX = ("hoplite", "local")
WEB = "web.shop.svc.hoplite.local"


def query(name: str = WEB, kind: str = "A", **more: object) -> bytes:
    return dns.message.make_query(name, kind, **more).to_wire()  # type: ignore[arg-type]


def asked(wire: bytes) -> Question:
    found = read(wire)
    assert isinstance(found, Question)
    return found


def refusal(wire: bytes) -> dns.message.Message:
    found = read(wire)
    assert isinstance(found, bytes)
    return dns.message.from_wire(found)


def answered(wire: bytes, answer: Answer, *, over_tcp: bool = False) -> dns.message.Message:
    written = write(asked(wire), answer, 7, over_tcp=over_tcp)
    found = dns.message.from_wire(written)
    assert dns.message.from_wire(wire).is_response(found)
    return found


def dotted(name: dns.name.Name) -> bytes:
    """A name as scapy tells it, without escapes."""
    return b".".join(name.labels) or b"."


def told(section: Iterable[Any]) -> list[tuple[bytes, int, int, str]]:
    """The records of a section as scapy reads them: name, type, TTL, and data as dnspython's."""

    def text(record: Any) -> str:
        match record:
            case DNSRRSOA():
                names = f"{record.mname.decode()} {record.rname.decode()}"
                numbers = record.serial, record.refresh, record.retry, record.expire, record.minimum
                return " ".join([names, *map(str, numbers)])
            case DNSRRSRV():
                target = record.target.decode()
                return f"{record.priority} {record.weight} {record.port} {target}"
        data = record.rdata
        return data.decode() if isinstance(data, bytes) else str(data)

    return sorted((r.rrname, r.type, r.ttl, text(r)) for r in section)


def many(count: int) -> Answer:
    return Answer(APEX, addresses=tuple(f"10.{i >> 8}.{i & 255}.1" for i in range(count)))


# -- answers ---------------------------------------------------------------------------------------


def test_an_answer_keeps_the_askers_spelling_and_id() -> None:
    wire = query("wEb.SHOP.svc.hoplite.LOCAL")
    found = answered(wire, Answer(APEX, addresses=("10.96.0.5",)))
    assert found.answer[0].to_text() == "wEb.SHOP.svc.hoplite.LOCAL. 5 IN A 10.96.0.5"
    assert found.flags == dns.flags.QR | dns.flags.AA | dns.flags.RD | dns.flags.RA
    assert asked(wire).name == ("web", "shop", "svc", "hoplite", "local")


@pytest.mark.parametrize("wanted", [True, False])
def test_bits_about_signatures_come_back_as_they_were(wanted: bool) -> None:
    message = dns.message.make_query(WEB, "A", use_edns=0, want_dnssec=wanted)
    message.flags |= dns.flags.CD if wanted else 0
    for answer in (Answer(APEX, addresses=("10.96.0.5",)), Answer(APEX, exists=False)):
        found = answered(message.to_wire(), answer)
        assert bool(found.ednsflags & dns.flags.DO) == wanted
        assert bool(found.flags & dns.flags.CD) == wanted


def test_what_does_not_exist_is_told_with_the_zones_soa() -> None:
    found = answered(query(), Answer(APEX, exists=False))
    assert found.rcode() == dns.rcode.NXDOMAIN
    assert found.authority[0].to_text().startswith("hoplite.local. 5 IN SOA hoplite.local. ")
    assert found.authority[0].to_text().endswith(" 7 3600 600 86400 5")
    empty = answered(query(kind="AAAA"), Answer(APEX))
    assert (empty.rcode(), empty.answer, len(empty.authority)) == (dns.rcode.NOERROR, [], 1)


def test_every_kind_of_record() -> None:
    six = answered(query(kind="AAAA"), Answer(APEX, addresses=("fd00:96::5",)))
    assert six.answer[0].to_text() == f"{WEB}. 5 IN AAAA fd00:96::5"
    target = Target(("web", "shop"), 80)
    more = ((("web", "shop"), "10.96.0.5"), (("web", "shop"), "fd00:96::5"))
    srv = answered(query(kind="SRV"), Answer(APEX, targets=(target,), additional=more))
    assert srv.answer[0].to_text() == f"{WEB}. 5 IN SRV 0 100 80 web.shop."
    assert len(srv.additional) == 2
    pointer = answered(query(kind="PTR"), Answer(APEX, targets=(Target(("web", "shop")),)))
    assert pointer.answer[0].to_text() == f"{WEB}. 5 IN PTR web.shop."
    soa = answered(query("hoplite.local", "SOA"), Answer(APEX))
    assert soa.answer[0].rdtype == dns.rdatatype.SOA
    assert answered(query("a.hoplite.local", "SOA"), Answer(APEX)).answer == []


@pytest.mark.parametrize(
    ("edns", "limit"), [(None, 512), (100, 512), (512, 512), (700, 700), (4096, LONGEST_DATAGRAM)]
)
def test_a_datagram_is_as_long_as_its_asker_takes_and_says_when_that_is_not_enough(
    edns: int | None, limit: int
) -> None:
    options = {} if edns is None else {"use_edns": 0, "payload": edns}
    wire = query(**options)
    room = 12 + len(WEB) + 2 + 4 + (11 if edns is not None else 0)
    fits = (limit - room) // 16
    whole = answered(wire, many(fits))
    assert len(whole.answer[0]) == fits
    assert not whole.flags & dns.flags.TC
    cut = answered(wire, many(fits + 1))
    assert cut.flags & dns.flags.TC
    assert cut.answer == []
    for found in (whole, cut):
        assert len(found.to_wire()) <= limit
        assert (found.edns, found.payload) == ((-1, 0) if edns is None else (0, LONGEST_DATAGRAM))


def test_over_tcp_an_answer_is_whole_and_of_one_that_is_too_long_a_share() -> None:
    assert len(answered(query(), many(3000), over_tcp=True).answer[0]) == 3000
    found = answered(query(), many(10_000), over_tcp=True)
    assert len(found.answer[0]) == (65535 - len(query())) // 16
    assert not found.flags & dns.flags.TC


def test_additional_records_are_left_out_before_anything_is_cut() -> None:
    more = tuple(((f"w{i}", "shop"), f"10.0.0.{i}") for i in range(200))
    found = answered(query(kind="SRV"), Answer(APEX, targets=(Target(("w",), 1),), additional=more))
    assert not found.flags & dns.flags.TC
    assert len(found.answer[0]) == 1
    assert 0 < len(found.additional) < 200


def test_all_addresses_have_their_turn_to_be_first() -> None:
    seen = set()
    for number in range(100):
        wire = number.to_bytes(2, "big") + query()[2:]
        found = dns.message.from_wire(write(asked(wire), many(3), 7, over_tcp=False))
        assert len(found.answer[0]) == 3
        seen.add(found.answer[0].to_text().splitlines()[0])
    assert len(seen) == 3


@given(wire=st.data())
def test_octets_of_all_kinds_in_a_name_come_back_as_they_were(wire: st.DataObject) -> None:
    labels = wire.draw(st.lists(st.binary(min_size=1, max_size=63), max_size=3))
    name = dns.name.Name([*labels, b""])
    sent = struct.pack("!6H", 7, 0, 1, 0, 0, 0) + name.to_wire() + struct.pack("!2H", 1, 1)
    found = answered(sent, Answer((), addresses=("192.0.2.1",)))
    assert found.answer[0].name.labels == name.labels


LABELS = st.lists(st.from_regex(r"[a-z0-9_-]{1,12}", fullmatch=True), min_size=1, max_size=6)
SOME_NAMES = st.lists(LABELS.map(tuple), max_size=40)


@given(names=SOME_NAMES, suffixes=st.lists(st.integers(0, 5), max_size=40))
def test_names_that_end_alike_are_written_short_and_read_whole(
    names: list[tuple[str, ...]], suffixes: list[int]
) -> None:
    base = ("web", "shop", "svc", "hoplite", "local")
    names = [(*n, *base[s:]) for n, s in zip(names, suffixes, strict=False)]
    more = tuple((n, a) for n in names for a in ("192.0.2.1", "2001:db8::1"))
    targets = tuple(Target(n, i + 1) for i, n in enumerate(names))
    found = answered(
        query(kind="SRV"), Answer(APEX, targets=targets, additional=more), over_tcp=True
    )
    written = {(r.port, r.target.to_text()) for rrset in found.answer for r in rrset}
    assert written == {(t.port, ".".join(t.name) + ".") for t in targets}
    assert {rrset.name.to_text() for rrset in found.additional} == {
        ".".join(n) + "." for n in names
    }


def test_of_more_targets_than_a_message_holds_a_share_is_told_without_addresses() -> None:
    names = [(f"w{i}", *APEX) for i in range(5000)]
    answer = Answer(
        APEX,
        targets=tuple(Target(name, 80) for name in names),
        additional=tuple((name, "10.0.0.1") for name in names),
    )
    wire = query(kind="SRV", use_edns=0)
    found = answered(wire, answer, over_tcp=True)
    assert len(found.answer[0]) > 1000
    assert found.additional == []
    assert 0 <= 65535 - len(found.to_wire()) < 64
    cut = answered(wire, answer)
    assert cut.flags & dns.flags.TC
    assert cut.answer == []


def test_everybody_has_a_share_of_what_is_too_much() -> None:
    seen = set()
    for number in range(0, 65536, 4000):
        wire = number.to_bytes(2, "big") + query()[2:]
        found = dns.message.from_wire(write(asked(wire), many(10_000), 7, over_tcp=True))
        seen.update(record.address for record in found.answer[0])
    assert len(seen) == 10_000


def test_a_target_that_dns_cannot_carry_is_left_out() -> None:
    good, bad = ("w", "shop"), ("x" * 64, "shop")
    targets = tuple(Target(name, 80) for name in (bad, good))
    more = ((bad, "10.0.0.1"), (good, "10.0.0.2"))
    found = answered(query(kind="SRV"), Answer(APEX, targets=targets, additional=more))
    assert [record.to_text() for record in found.answer[0]] == ["0 100 80 w.shop."]
    assert [rrset.name.to_text() for rrset in found.additional] == ["w.shop."]
    for kind in ("SRV", "PTR"):
        none = answered(query(kind=kind), Answer(APEX, targets=(Target(bad),)))
        assert (none.rcode(), none.answer, len(none.authority)) == (dns.rcode.NOERROR, [], 1)


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", [b"", b"\0" * 11, query()[:11]])
def test_what_has_no_header_gets_no_answer(wire: bytes) -> None:
    assert read(wire) is None


def test_an_answer_sent_as_a_query_gets_no_answer() -> None:
    reply = dns.message.make_response(dns.message.make_query(WEB, "A"))
    assert read(reply.to_wire()) is None


@pytest.mark.parametrize("opcode", range(1, 16))
def test_other_requests_than_queries(opcode: int) -> None:
    wire = bytearray(query())
    wire[2] |= opcode << 3
    found = read(bytes(wire))
    assert isinstance(found, bytes)
    assert found[:2] == wire[:2]
    assert (found[2], found[3]) == (0x81 | opcode << 3, dns.rcode.NOTIMP)
    assert len(found) == 12


@pytest.mark.parametrize("kind", ["AXFR", "IXFR", "ANY", "MAILA", "TKEY", "OPT", "TYPE200"])
def test_requests_in_the_guise_of_types(kind: str) -> None:
    header = struct.pack("!6H", 5, 0, 1, 0, 0, 0)
    number = dns.rdatatype.from_text(kind)
    found = refusal(header + dns.name.from_text(WEB).to_wire() + struct.pack("!2H", number, 1))
    assert (found.rcode(), found.id) == (dns.rcode.REFUSED, 5)


@pytest.mark.parametrize("class_", ["CH", "HS", "ANY", "NONE", "CLASS77"])
def test_other_classes(class_: str) -> None:
    found = refusal(query("version.bind", "TXT", rdclass=dns.rdataclass.from_text(class_)))
    assert found.rcode() == dns.rcode.REFUSED


def test_a_newer_edns() -> None:
    found = refusal(query(use_edns=1))
    assert (found.rcode(), found.edns) == (dns.rcode.BADVERS, 0)


def test_a_signature_that_we_have_no_key_for_is_passed_over() -> None:
    message = dns.message.make_query(WEB, "A", use_edns=0)
    message.use_tsig(dns.tsig.Key("k", b"0123456789"))
    assert asked(message.to_wire()).message.payload


def test_records_that_come_with_a_query_are_not_looked_into(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """dnspython would load a module for every type, and remember each pair of type and class."""

    def looked(*_: object) -> None:
        raise AssertionError

    answered(query(use_edns=0), Answer(APEX, addresses=("10.96.0.5",)))
    loaded = set(sys.modules)
    monkeypatch.setattr(dns.rdata, "get_rdata_class", looked)
    for kind in range(0, 65536, 13):
        record = b"\0" + struct.pack("!2HIH", kind, kind ^ 77, 0, 2) + b"??"
        read(query()[:10] + b"\0\1" + query()[12:] + record)
    assert set(sys.modules) == loaded


HEADER = struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0)
IN_A = b"\0\1\0\1"
LABEL = b"\x3f" + b"x" * 63
OPT = b"\0\0\x29\x10\0\0\0\0\0\0\0"


def with_opt(count: int, *records: bytes) -> bytes:
    header = struct.pack("!6H", 7, 0x0100, 1, 0, 0, count)
    return header + b"\3web\0" + IN_A + b"".join(records)


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(HEADER, id="no question"),
        pytest.param(HEADER + b"\3web", id="name without end"),
        pytest.param(HEADER + b"\3web\0\0\1", id="question without class"),
        pytest.param(HEADER + b"\xc0\x0c" + IN_A, id="pointer to itself"),
        pytest.param(HEADER + b"\3web\xc0\x0c" + IN_A, id="loop"),
        pytest.param(HEADER + b"\xc0\xff" + IN_A, id="pointer beyond the end"),
        pytest.param(HEADER + b"\3web\xc0\x04" + IN_A, id="pointer into the header"),
        pytest.param(HEADER + b"\x40" + IN_A, id="label of no known kind"),
        pytest.param(HEADER + LABEL * 4 + b"\0" + IN_A, id="name of 257 octets"),
        pytest.param(HEADER + b"\1x" * 128 + b"\0" + IN_A, id="name of 128 labels"),
        pytest.param(HEADER + b"\3web\0" + IN_A + b"x", id="junk behind"),
        pytest.param(query()[:4] + b"\0\0" + query()[6:], id="no question counted"),
        pytest.param(query()[:4] + b"\0\2" + query()[6:], id="two questions"),
        pytest.param(query()[:6] + b"\xff\xff" + query()[8:], id="answers"),
        pytest.param(query()[:8] + b"\0\1" + query()[10:], id="authorities"),
        pytest.param(query()[:10] + b"\xff\xff", id="65535 additionals"),
        pytest.param(with_opt(1), id="additional that is not there"),
        pytest.param(with_opt(2, OPT, OPT), id="EDNS twice"),
        pytest.param(with_opt(1, b"\1x" + OPT), id="EDNS with a name"),
        pytest.param(with_opt(1, OPT[:-1] + b"\x09x"), id="option beyond the end"),
    ],
)
def test_what_cannot_be_read_is_said_to_be_so(wire: bytes) -> None:
    found = read(wire)
    assert isinstance(found, bytes)
    assert (found[:2], found[3], len(found)) == (wire[:2], dns.rcode.FORMERR, 12)


def test_the_longest_name_is_answered() -> None:
    name = ".".join(["x" * 63, "x" * 63, "x" * 63, "x" * 61])
    found = answered(query(name), Answer(APEX, exists=False))
    assert found.rcode() == dns.rcode.NXDOMAIN


# -- forwarding ------------------------------------------------------------------------------------


def reply(wire: bytes, *, number: int | None = None) -> bytes:
    made = dns.message.make_response(dns.message.from_wire(wire))
    if number is not None:
        made.id = number
    return made.to_wire()


def test_a_query_goes_on_unchanged_but_for_its_id() -> None:
    wire = query("eXample.org", use_edns=0)
    sent = query_from(asked(wire), 4242)
    assert sent[2:] == wire[2:]
    assert dns.message.from_wire(sent).id == 4242


def test_a_reply_comes_back_under_the_askers_id_and_in_its_spelling() -> None:
    wire = query("eXample.ORG")
    back = reply_to(asked(wire), 4242, reply(query("example.org"), number=4242))
    assert back is not None
    assert back[:2] == wire[:2]
    assert back[12:] == wire[12:]


@pytest.mark.parametrize(
    "spoofed",
    [
        pytest.param(reply(query("example.org"), number=1), id="another id"),
        pytest.param(reply(query("example.net"), number=4242), id="another name"),
        pytest.param(reply(query("example.org", "AAAA"), number=4242), id="another type"),
        pytest.param(reply(query("example.org", rdclass=3), number=4242), id="another class"),
        pytest.param(reply(query("b.example.org"), number=4242), id="a longer name"),
        pytest.param(query_from(asked(query("example.org")), 4242), id="a query"),
        pytest.param(b"", id="nothing"),
        pytest.param(reply(query("example.org"), number=4242)[:20], id="cut off"),
    ],
)
def test_what_does_not_answer_the_question_is_no_reply(spoofed: bytes) -> None:
    assert reply_to(asked(query("example.org")), 4242, spoofed) is None


def test_types_that_differ_like_letters_are_told_apart() -> None:
    """65 and 97 are "A" and "a"."""
    https, uri = query("example.org", "TYPE65"), query("example.org", "TYPE97")
    assert reply_to(asked(https), 1, reply(uri, number=1)) is None
    assert reply_to(asked(https), 1, reply(https, number=1)) is not None


# -- anything --------------------------------------------------------------------------------------

NAMES = st.sampled_from(
    [WEB, "web.shop", "db.shop.svc", "5.0.96.10.in-addr.arpa", "example.org", "_http._tcp.web.shop"]
)
QUERIES = st.builds(
    lambda name, kind, edns, payload: query(name, kind, use_edns=edns, payload=payload),
    NAMES,
    st.sampled_from(["A", "AAAA", "SRV", "PTR", "SOA", "ANY", "TXT", "HTTPS"]),
    st.sampled_from([-1, 0, 1]),
    st.integers(0, 65535),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A query with some octets changed, put in or lost."""
    wire = bytearray(draw(QUERIES))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(wire) - 1))
        match draw(st.integers(0, 2)):
            case 0:
                wire[at] = draw(st.integers(0, 255))
            case 1:
                wire[at:at] = draw(st.binary(max_size=40))
            case _ if len(wire) > 1:
                del wire[at : at + draw(st.integers(1, 8))]
        if not wire:
            break
    return bytes(wire)


@given(wire=damaged() | st.binary(max_size=600), over_tcp=st.booleans())
@example(wire=b"\0" * 12, over_tcp=False)
def test_anything_is_answered_refused_or_ignored(wire: bytes, over_tcp: bool, zone: Zone) -> None:
    """And what we say can be read, is for this asker, and is short enough."""
    found = decide(zone, (), wire, "10.244.1.11", over_tcp=over_tcp)
    if found is None:
        assert len(wire) < 12 or wire[2] & 0x80
        return
    if isinstance(found, Forward):
        assert dns.message.from_wire(query_from(found.question, 1), ignore_trailing=False).id == 1
        return
    assert isinstance(found, Reply)
    assert found.wire[:2] == wire[:2]
    assert found.wire[2] & 0x80
    assert len(found.wire) <= (65535 if over_tcp else LONGEST_DATAGRAM)
    if len(found.wire) > 12:
        dns.message.from_wire(found.wire)


@given(wire=damaged())
def test_a_question_is_what_others_read_too(wire: bytes) -> None:
    """We may refuse more, but never take for a question what they cannot read, or another one."""
    found = read(wire)
    if not isinstance(found, Question):
        return
    whole = dns.message.from_wire(wire, keyring=False, continue_on_error=True)
    assert whole.question == found.message.question
    assert whole.errors or whole.edns == found.message.edns
    theirs = DNS(wire)
    assert theirs.id == found.message.id
    assert [(q.qname, q.qtype, q.qclass) for q in theirs.qd] == [
        (dotted(found.asked.name), found.asked.rdtype, 1)
    ]
    options = [record for record in theirs.ar if isinstance(record, DNSRROPT)]
    assert [record.rclass for record in options] == [found.message.payload] * len(options)
    assert bool(options) == (found.message.edns == 0)


@given(wire=QUERIES, over_tcp=st.booleans())
def test_another_reader_finds_the_same_in_our_answers(
    wire: bytes, over_tcp: bool, zone: Zone
) -> None:
    found = decide(zone, (), wire, "10.244.1.11", over_tcp=over_tcp)
    if not isinstance(found, Reply):
        return
    ours, theirs = dns.message.from_wire(found.wire), DNS(found.wire)
    assert isinstance(theirs.payload, NoPayload)
    assert (theirs.id, theirs.qr, theirs.tc, theirs.rcode) == (
        ours.id,
        1,
        bool(ours.flags & dns.flags.TC),
        ours.rcode() & 15,
    )
    for section, ours_there in ((theirs.an, ours.answer), (theirs.ns, ours.authority)):
        assert told(section) == sorted(
            (dotted(rrset.name), rrset.rdtype, rrset.ttl, record.to_text())
            for rrset in ours_there
            for record in rrset
        )
    (options,) = [r for r in theirs.ar if isinstance(r, DNSRROPT)] or (None,)
    assert (options.rclass if options else 0) == ours.payload
    assert len(theirs.ar) == ours.section_count(ours.additional)


@given(spoofed=st.binary(max_size=200), number=st.integers(0, 65535))
def test_any_reply_is_taken_or_not(spoofed: bytes, number: int) -> None:
    wire = query("example.org")
    found = reply_to(asked(wire), number, spoofed)
    assert found is None or found[: len(wire)][12:] == wire[12:]


@given(wire=damaged(), number=st.integers(0, 65535))
def test_a_damaged_reply_is_for_the_question_or_none(wire: bytes, number: int) -> None:
    mine = query(WEB)
    broken = bytearray(number.to_bytes(2, "big") + wire[2:].ljust(10, b"\0"))
    broken[2] |= 0x80
    found = reply_to(asked(mine), number, bytes(broken))
    assert found is None or found[12 : len(mine)] == mine[12:]
