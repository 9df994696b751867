"""What a query asks, and what we say to it (RFC 1035, 6891), read and written by dnspython. Pure.

Of a query only what matters is read: one question and EDNS. Nothing in it can make us follow or
compute more than that, or have dnspython load and remember types that strangers make up.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.wire
from dns.exception import DNSException, FormError
from dns.rdata import Rdata
from dns.rdataclass import IN
from dns.rdatatype import RdataType
from dns.rdtypes.ANY.PTR import PTR
from dns.rdtypes.ANY.SOA import SOA
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA
from dns.rdtypes.IN.SRV import SRV

from nodeagent.dns.names import Labels, labels_of, name_of
from nodeagent.dns.zone import Answer

T = TypeVar("T")

LONGEST_QUERY = 4096  # octets; a name has 255, and the rest are options
LONGEST_DATAGRAM = 1232  # octets of our own answers; no fragments (RFC 9715)
TTL = 5  # seconds that an answer may be kept, "no such name" included

_HEADER = "!6H"  # id, flags, and how many questions, answers, authorities, additionals
_HEADER_SIZE = 12
_MOST_ADDITIONALS = 2  # OPT and a signature
_LONGEST = 65535
_SHORTEST_DATAGRAM = 512  # octets that everybody takes
_RECORD_SIZE = 12  # octets: a pointer to the question's name, type, class, TTL and length
_OPT_SIZE = 11  # octets of EDNS without options
_MOST_SETS = 256  # additional ones; each costs some 50 µs


@dataclass(frozen=True)
class Question:
    """A query: its octets, what they say, and the offset of what follows the question."""

    wire: bytes
    message: dns.message.Message
    end: int

    @property
    def asked(self) -> dns.rrset.RRset:
        """Name (as it was spelt), type and class."""
        return self.message.question[0]

    @property
    def name(self) -> Labels:
        return labels_of(self.asked.name)

    @property
    def mnemonic(self) -> str:
        """The record type's name."""
        return RdataType.to_text(self.asked.rdtype)


def read(wire: bytes) -> Question | bytes | None:
    """A question; or the refusal to send; or None for what is no query and must get no answer."""
    parser = dns.wire.Parser(wire)
    try:
        number, flags, *counts = parser.get_struct(_HEADER)
    except DNSException:
        return None
    if flags & dns.flags.QR:
        return None
    if dns.opcode.from_flags(flags) != dns.opcode.QUERY:
        return _bare(number, flags, dns.rcode.NOTIMP)
    try:
        question = _question(parser, number, flags, counts)
    except DNSException:
        return _bare(number, flags, dns.rcode.FORMERR)
    refused = _refused(question)
    return question if refused is None else failure(question, refused)


def write(question: Question, answer: Answer, serial: int, *, over_tcp: bool) -> bytes:
    """The answer's octets, no more than the asker takes.

    A datagram that would be too long is sent without records and says so; a stream gets as many
    records as a message holds.
    """
    longest = min(max(question.message.payload, _SHORTEST_DATAGRAM), LONGEST_DATAGRAM)
    limit = _LONGEST if over_tcp else longest
    room = limit - question.end - (_OPT_SIZE if question.message.opt else 0)
    reply = _begin(question, dns.rcode.NOERROR if answer.exists else dns.rcode.NXDOMAIN)
    reply.flags |= dns.flags.AA
    records, whole = _fitting(_records(question, answer, serial), room)
    if not whole and not over_tcp:
        reply.flags |= dns.flags.TC
    elif records:
        reply.answer.append(dns.rrset.from_rdata_list(question.asked.name, TTL, records))
        if whole:
            reply.additional.extend(islice(_additional(answer), _MOST_SETS))
    else:
        apex = name_of(answer.apex)
        reply.authority.append(dns.rrset.from_rdata(apex, TTL, _soa(apex, serial)))
    return reply.to_wire(max_size=limit, prefer_truncation=True)


def failure(question: Question, rcode: dns.rcode.Rcode) -> bytes:
    """An answer without records."""
    return _begin(question, rcode).to_wire()


def query_from(question: Question, number: int) -> bytes:
    """The same query under another id, for somebody else to answer."""
    return number.to_bytes(2, "big") + question.wire[2:]


def reply_to(question: Question, number: int, reply: bytes) -> bytes | None:
    """What came back for ``query_from``, as the asker must see it; None if it answers another.

    The question in it gets back the asker's own spelling, by which some know their answers.
    """
    parser = dns.wire.Parser(reply)
    try:
        found, flags, questions, *_ = parser.get_struct(_HEADER)
        name = parser.get_name(decompress=False)
        kind, class_ = parser.get_struct("!2H")
    except DNSException:
        return None
    if found != number or not flags & dns.flags.QR or dns.opcode.from_flags(flags):
        return None
    asked = question.asked
    if questions != 1 or (name, kind, class_) != (asked.name, asked.rdtype, asked.rdclass):
        return None
    wire, end = question.wire, question.end
    return wire[:2] + reply[2:_HEADER_SIZE] + wire[_HEADER_SIZE:end] + reply[end:]


def rcode_of(reply: bytes) -> dns.rcode.Rcode:
    """The code of a message, as far as its header tells."""
    return dns.rcode.from_flags(_flags(reply), 0)


# -- reading -------------------------------------------------------------------------------------


def _question(parser: dns.wire.Parser, number: int, flags: int, counts: list[int]) -> Question:
    """The query behind a header. Its name must stand there in full.

    Not by ``dns.message.from_wire``, which decodes every record and loads and remembers its type.
    """
    questions, answers, authorities, additionals = counts
    if questions != 1 or answers or authorities or additionals > _MOST_ADDITIONALS:
        raise FormError
    name = parser.get_name(decompress=False)
    kind, class_ = parser.get_struct("!2H")
    end = parser.current
    message = dns.message.make_query(name, kind, class_, id=number, flags=flags)
    for _ in range(additionals):
        owner = parser.get_name(decompress=True)
        kind, class_, ttl, size = parser.get_struct("!2HIH")
        with parser.restrict_to(size):
            parser.get_remaining()  # EDNS' options, or a signature, for which we have no key
        if kind == RdataType.OPT:
            if message.opt or owner != dns.name.root:
                raise dns.message.BadEDNS
            message.use_edns(ttl >> 16 & 0xFF, ttl, payload=class_)
    if parser.remaining():
        raise dns.message.TrailingJunk
    return Question(parser.wire, message, end)


def _refused(question: Question) -> dns.rcode.Rcode | None:
    """Why a question that could be read gets no answer, if so."""
    if question.message.edns > 0:
        return dns.rcode.BADVERS
    if question.asked.rdclass != IN or dns.rdatatype.is_metatype(question.asked.rdtype):
        return dns.rcode.REFUSED  # a request rather than a record: AXFR, ANY, …
    return None


# -- writing -------------------------------------------------------------------------------------


def _bare(number: int, flags: int, rcode: dns.rcode.Rcode) -> bytes:
    """A header alone, to what could not be read any further."""
    reply = dns.message.Message(number)
    reply.flags = dns.flags.QR | flags & dns.flags.RD
    reply.set_opcode(dns.opcode.from_flags(flags))
    reply.set_rcode(rcode)
    return reply.to_wire()


def _begin(question: Question, rcode: dns.rcode.Rcode) -> dns.message.Message:
    reply = dns.message.make_response(
        question.message, recursion_available=True, our_payload=LONGEST_DATAGRAM, pad=0
    )
    reply.flags |= question.message.flags & dns.flags.CD
    reply.want_dnssec(bool(question.message.ednsflags & dns.flags.DO))  # copied (RFC 3225)
    reply.set_rcode(rcode)
    return reply


def _records(question: Question, answer: Answer, serial: int) -> Iterator[Rdata]:
    """What is asked for, beginning with any of it, but for names that DNS cannot carry."""
    start = question.message.id
    match question.asked.rdtype:
        case RdataType.A | RdataType.AAAA:
            yield from map(_address, _turned(answer.addresses, start))
        case RdataType.SRV:
            for target in _turned(answer.targets, start):
                with suppress(DNSException):
                    yield SRV(IN, RdataType.SRV, 0, 100, target.port, name_of(target.name))
        case RdataType.PTR:
            for target in answer.targets:
                with suppress(DNSException):
                    yield PTR(IN, RdataType.PTR, name_of(target.name))
        case RdataType.SOA if question.name == answer.apex:
            yield _soa(question.asked.name, serial)


def _fitting(records: Iterator[Rdata], room: int) -> tuple[list[Rdata], bool]:
    """As many records as there is room for, and whether that is all."""
    found: list[Rdata] = []
    for record in records:
        room -= _size(record)
        if room < 0:
            return found, False
        found.append(record)
    return found, True


def _size(record: Rdata) -> int:
    """The octets of a record of the question's name; of one that comes alone, at least these."""
    match record:
        case A():
            return _RECORD_SIZE + 4
        case AAAA():
            return _RECORD_SIZE + 16
        case SRV():
            return _RECORD_SIZE + 6 + sum(len(label) + 1 for label in record.target.labels)
    return _RECORD_SIZE


def _additional(answer: Answer) -> Iterator[dns.rrset.RRset]:
    """The addresses of targets, which may be missing."""
    found: dict[tuple[Labels, RdataType], list[Rdata]] = {}
    for name, text in answer.additional:
        record = _address(text)
        found.setdefault((name, record.rdtype), []).append(record)
    for (name, _), records in found.items():
        with suppress(DNSException):
            yield dns.rrset.from_rdata_list(name_of(name), TTL, records)


def _address(text: str) -> Rdata:
    if ":" in text:
        return AAAA(IN, RdataType.AAAA, text)
    return A(IN, RdataType.A, text)


def _soa(apex: dns.name.Name, serial: int) -> SOA:
    """Of its two names, the format wants them and nobody needs them."""
    return SOA(IN, RdataType.SOA, apex, apex, serial % 2**32, 3600, 600, 86400, TTL)


def _turned(records: tuple[T, ...], number: int) -> tuple[T, ...]:
    """The records in turn, so that all have their share when there is no room for all."""
    start = number % len(records) if records else 0
    return records[start:] + records[:start]


def _flags(wire: bytes) -> int:
    return int.from_bytes(wire[2:4], "big")
