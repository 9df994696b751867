"""What a query asks, and how what we say to it is written (RFC 1035, 6891). Pure.

Of a query only what matters is read: one question and EDNS. Nothing in it can make us follow or
compute more than that.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

from nodeagent.dns import wire as octets
from nodeagent.dns.wire import (
    AA,
    CD,
    HEADER,
    OPCODE,
    OPT_SIZE,
    QR,
    QUESTION_TAIL,
    RA,
    RCODE,
    RD,
    RECORD,
    TC,
    Labels,
    Rcode,
    Type,
)
from nodeagent.dns.zone import Answer

T = TypeVar("T")

LONGEST_QUERY = 4096  # octets; a name has 255, and the rest are options
LONGEST_DATAGRAM = 1232  # octets of our own answers; no fragments (RFC 9715)
TTL = 5  # seconds that an answer may be kept, "no such name" included

_META_TYPES = range(128, 256)  # AXFR, ANY, …: requests, not records (RFC 6895, section 3.1)
_MOST_ADDITIONALS = 2  # OPT and a signature
_ANSWER, _AUTHORITY, _ADDITIONAL = 1, 2, 3
_LONGEST = 65535
_MNEMONICS = {int(kind): kind.name for kind in Type}


@dataclass(frozen=True)
class Question:
    """A query: its octets and what they ask. ``payload`` is 0 without EDNS."""

    wire: bytes
    name: Labels
    kind: int
    end: int  # offset of what follows the question
    payload: int

    @property
    def number(self) -> int:
        return int.from_bytes(self.wire[:2], "big")

    @property
    def mnemonic(self) -> str:
        """The record type, as far as the zone tells types apart."""
        return _MNEMONICS.get(self.kind, "")


def read(wire: bytes) -> Question | bytes | None:
    """A question; or the refusal to send; or None for what is no query and must get no answer."""
    if len(wire) < HEADER.size:
        return None
    _, flags, questions, answers, authorities, additionals = HEADER.unpack_from(wire)
    if flags & QR:
        return None
    if flags & OPCODE:
        return _bare(wire, Rcode.NOTIMP)
    if questions != 1 or answers or authorities or additionals > _MOST_ADDITIONALS:
        return _bare(wire, Rcode.FORMERR)
    try:
        return _question(wire, additionals)
    except octets.MalformedError:
        return _bare(wire, Rcode.FORMERR)


def write(question: Question, answer: Answer, serial: int, *, over_tcp: bool) -> bytes:
    """The answer's octets, no more than the asker takes."""
    wire = _render(question, answer, serial, over_tcp=over_tcp)
    while over_tcp and _flags(wire) & TC:  # more than a message can be
        answer = _half(answer, question.number)
        wire = _render(question, answer, serial, over_tcp=over_tcp)
    return wire


def failure(question: Question, rcode: Rcode) -> bytes:
    """An answer without records."""
    return _finish(_begin(question, _LONGEST), question, rcode)


def query_from(question: Question, number: int) -> bytes:
    """The same query under another id, for somebody else to answer."""
    return number.to_bytes(2, "big") + question.wire[2:]


def reply_to(question: Question, number: int, reply: bytes) -> bytes | None:
    """What came back for ``query_from``, as the asker must see it; None if it answers another.

    The question in it gets back the asker's own spelling, by which some know their answers.
    """
    asked, end = question.wire, question.end
    if len(reply) < end:
        return None
    found, flags, questions, *_ = HEADER.unpack_from(reply)
    if found != number or not flags & QR or flags & OPCODE or questions != 1:
        return None
    name = slice(HEADER.size, end - QUESTION_TAIL.size)
    tail = slice(end - QUESTION_TAIL.size, end)
    if reply[name].lower() != asked[name].lower() or reply[tail] != asked[tail]:
        return None
    return asked[:2] + reply[2 : HEADER.size] + asked[HEADER.size : end] + reply[end:]


def rcode_of(reply: bytes) -> int:
    """The code of a message, as far as its header tells."""
    return _flags(reply) & RCODE


def _question(wire: bytes, additionals: int) -> Question | bytes:
    name, offset = octets.read_name(wire, HEADER.size)
    end = offset + QUESTION_TAIL.size
    if end > len(wire):
        raise octets.MalformedError("question")
    kind, class_ = QUESTION_TAIL.unpack_from(wire, offset)
    payload, version = _edns(wire, end, additionals)
    question = Question(wire, name, kind, end, payload)
    if version:
        return failure(question, Rcode.BADVERS)
    if class_ != octets.IN or kind == Type.OPT or kind in _META_TYPES:
        return failure(question, Rcode.REFUSED)
    return question


def _edns(wire: bytes, offset: int, count: int) -> tuple[int, int]:
    """How long an answer the asker takes (0: no EDNS) and its version, from the last records."""
    found = []
    for _ in range(count):
        start, offset = offset, octets.skip_name(wire, offset)
        if offset + RECORD.size > len(wire):
            raise octets.MalformedError("record")
        kind, size, ttl, length = RECORD.unpack_from(wire, offset)
        if kind == Type.OPT:
            if wire[start]:
                raise octets.MalformedError("OPT below the root")
            found.append((max(size, 512), ttl >> 16 & 0xFF))
        offset += RECORD.size + length
    if offset != len(wire) or len(found) > 1:
        raise octets.MalformedError("end")
    return found[0] if found else (0, 0)


def _bare(wire: bytes, rcode: Rcode) -> bytes:
    """A header alone, to what could not be read any further."""
    number, flags, *_ = HEADER.unpack_from(wire)
    return HEADER.pack(number, QR | flags & (OPCODE | RD) | rcode, 0, 0, 0, 0)


def _render(question: Question, answer: Answer, serial: int, *, over_tcp: bool) -> bytes:
    limit = _LONGEST if over_tcp else min(question.payload or 512, LONGEST_DATAGRAM)
    rcode = Rcode.NOERROR if answer.exists else Rcode.NXDOMAIN
    writer, flags = _begin(question, limit), AA
    try:
        if not _answers(writer, question, answer, serial):
            writer.authority(_AUTHORITY, answer.apex, TTL, serial)
    except octets.TooLongError:
        writer, flags = _begin(question, limit), AA | TC
    else:
        with suppress(octets.TooLongError):  # these may be missing
            for name, address in answer.additional:
                writer.address(_ADDITIONAL, name, TTL, address)
    return _finish(writer, question, rcode, flags)


def _answers(writer: octets.Writer, question: Question, answer: Answer, serial: int) -> bool:
    """Write the records asked for, beginning with any of them; False if there is none."""
    name, number = question.name, question.number
    match question.kind:
        case Type.A | Type.AAAA:
            for address in _turned(answer.addresses, number):
                writer.address(_ANSWER, name, TTL, address)
            return bool(answer.addresses)
        case Type.SRV:
            for target in _turned(answer.targets, number):
                writer.server(_ANSWER, name, TTL, target.port, target.name)
            return bool(answer.targets)
        case Type.PTR:
            for target in answer.targets:
                writer.pointer(_ANSWER, name, TTL, target.name)
            return bool(answer.targets)
        case Type.SOA if name == answer.apex:
            writer.authority(_ANSWER, name, TTL, serial)
            return True
    return False


def _begin(question: Question, limit: int) -> octets.Writer:
    room = OPT_SIZE if question.payload else 0
    asked = question.wire[HEADER.size : question.end]
    return octets.Writer(asked, question.name, limit - room)


def _finish(writer: octets.Writer, question: Question, rcode: Rcode, flags: int = 0) -> bytes:
    flags |= QR | RA | _flags(question.wire) & (RD | CD) | rcode & RCODE
    opt = octets.opt(LONGEST_DATAGRAM, rcode) if question.payload else b""
    return writer.finish(question.number, flags, opt)


def _flags(wire: bytes) -> int:
    return int.from_bytes(wire[2:4], "big")


def _turned(records: tuple[T, ...], number: int) -> tuple[T, ...]:
    """The records in turn, so that who takes the first one does not always take the same."""
    start = number % len(records) if records else 0
    return records[start:] + records[:start]


def _half(answer: Answer, number: int) -> Answer:
    """Every other record; which half is the id's choice, so that all get their share of askers."""
    rest = slice(number % 2, None, 2)
    return replace(
        answer, addresses=answer.addresses[rest], targets=answer.targets[rest], additional=()
    )
