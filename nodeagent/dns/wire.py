"""The octets of DNS messages (RFC 1035, section 4): header, names, records. Pure."""

from __future__ import annotations

import struct
from enum import IntEnum
from ipaddress import ip_address

Labels = tuple[str, ...]  # of a name, lower-case, leftmost first, without the root

HEADER = struct.Struct("!6H")  # id, flags, and how many questions, answers, authorities, others
QUESTION_TAIL = struct.Struct("!2H")  # type, class
RECORD = struct.Struct("!2HIH")  # type, class, seconds to live, length of the data
IN = 1  # the class
OPT_SIZE = 1 + RECORD.size  # octets of an OPT record without options

# The header's flags
QR = 0x8000  # an answer
OPCODE = 0x7800  # 0: a query
AA = 0x0400  # by the one who knows
TC = 0x0200  # cut off
RD = 0x0100  # look it up elsewhere, if need be
RA = 0x0080  # we would
CD = 0x0010  # do not check signatures
RCODE = 0x000F

_LONGEST_NAME, _LONGEST_LABEL = 255, 63  # octets (section 2.3.4)
_POINTER = 0xC000  # what an offset that stands for the rest of a name begins with
_SERVER = struct.Struct("!3H")  # priority, weight, port (RFC 2782)
_AUTHORITY = struct.Struct("!5I")  # serial, refresh, retry, expire, negative time to live


class Type(IntEnum):
    """The record types that are told apart."""

    A = 1
    SOA = 6
    PTR = 12
    AAAA = 28
    SRV = 33
    OPT = 41


class Rcode(IntEnum):
    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    BADVERS = 16  # its upper part stands in OPT


class MalformedError(ValueError):
    """Octets that are no DNS message."""


class TooLongError(ValueError):
    """A record that does not fit any more."""


def read_name(wire: bytes, offset: int) -> tuple[Labels, int]:
    """A name that stands there in full, and where it ends."""
    labels = []
    start = offset
    while (size := _octet(wire, offset)) != 0:
        offset += 1 + size
        if size > _LONGEST_LABEL or offset - start >= _LONGEST_NAME or offset > len(wire):
            raise MalformedError("name")
        labels.append(wire[offset - size : offset].lower().decode("latin-1"))
    return tuple(labels), offset + 1


def skip_name(wire: bytes, offset: int) -> int:
    """Where a name ends, of which the last part may stand elsewhere."""
    while (size := _octet(wire, offset)) != 0:
        if size >= _POINTER >> 8:
            return offset + 2
        if size > _LONGEST_LABEL:
            raise MalformedError("name")
        offset += 1 + size
    return offset + 1


def writable(name: Labels) -> bool:
    """Whether a name may be written at all."""
    fits = all(0 < len(label) <= _LONGEST_LABEL for label in name)
    return fits and sum(len(label) + 1 for label in name) < _LONGEST_NAME


class Writer:
    """Puts an answer together, in no more than ``limit`` octets.

    ``question`` is the question's own octets, as it was asked, and ``name`` the name in it.
    """

    def __init__(self, question: bytes, name: Labels, limit: int) -> None:
        self._limit = limit
        self._counts = [1, 0, 0, 0]
        self._wire = bytearray(HEADER.size) + question
        self._offsets: dict[Labels, int] = {}
        self._remember(name, HEADER.size)

    def address(self, section: int, owner: Labels, ttl: int, text: str) -> None:
        kind = Type.AAAA if ":" in text else Type.A
        self._record(section, owner, kind, ttl, ip_address(text).packed)

    def server(self, section: int, owner: Labels, ttl: int, port: int, target: Labels) -> None:
        """SRV. Its target is written in full (RFC 2782)."""
        self._record(section, owner, Type.SRV, ttl, _SERVER.pack(0, 100, port) + _full(target))

    def pointer(self, section: int, owner: Labels, ttl: int, target: Labels) -> None:
        self._record(section, owner, Type.PTR, ttl, _full(target))

    def authority(self, section: int, apex: Labels, ttl: int, serial: int) -> None:
        """SOA. Of its two names, the format wants them and nobody needs them."""
        numbers = _AUTHORITY.pack(serial % 2**32, 3600, 600, 86400, ttl)
        self._record(section, apex, Type.SOA, ttl, _full(apex) + _full(apex) + numbers)

    def finish(self, number: int, flags: int, opt: bytes) -> bytes:
        """The message; ``opt`` is a last record, for which the limit left room."""
        if opt:
            self._wire += opt
            self._counts[3] += 1
        HEADER.pack_into(self._wire, 0, number, flags, *self._counts)
        return bytes(self._wire)

    def _record(self, section: int, owner: Labels, kind: Type, ttl: int, value: bytes) -> None:
        start = len(self._wire)
        self._name(owner)
        self._wire += RECORD.pack(kind, IN, ttl, len(value)) + value
        if len(self._wire) > self._limit:
            del self._wire[start:]
            raise TooLongError
        self._remember(owner, start)
        self._counts[section] += 1

    def _name(self, name: Labels) -> None:
        """Write a name, its longest part that stands somewhere already by where that is."""
        for i in range(len(name)):
            if offset := self._offsets.get(name[i:]):
                self._wire += _labels(name[:i]) + (_POINTER | offset).to_bytes(2, "big")
                return
        self._wire += _full(name)

    def _remember(self, name: Labels, offset: int) -> None:
        for i, label in enumerate(name):
            if name[i:] in self._offsets or offset >= 1 << 14:
                return
            self._offsets[name[i:]] = offset
            offset += 1 + len(label)


def opt(payload: int, rcode: Rcode) -> bytes:
    """The record by which EDNS is spoken, without options."""
    return b"\0" + RECORD.pack(Type.OPT, payload, rcode >> 4 << 24, 0)


def _octet(wire: bytes, offset: int) -> int:
    if offset >= len(wire):
        raise MalformedError("cut off")
    return wire[offset]


def _labels(name: Labels) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode("latin-1") for label in name)


def _full(name: Labels) -> bytes:
    return _labels(name) + b"\0"
