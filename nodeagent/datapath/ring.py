"""Reads the BPF ring buffer through its memory map: no call per event, no copy but the records'.

Layout (kernel/bpf/ringbuf.c): a page with the consumer's position, a page with the producer's, then
the data. A record is a header (length with two flag bits, page offset) and the payload, rounded up
to 8 bytes; its payload may go on at the beginning of the data. (The kernel offers the data twice in
a row, so that no record wraps; what is mapped twice counts as resident twice.)
"""

from __future__ import annotations

import mmap
import struct

from meshapi.errors import HopliteError
from nodeagent.layout import EVENT, RING_HEADER

_POSITION = struct.Struct("<Q")
_HEADER = struct.Struct("<I")
_BUSY = 1 << 31
_DISCARDED = 1 << 30


class Ring:
    """The consumer's end of one ring buffer of ``size`` bytes, with records of one length."""

    def __init__(self, fd: int, size: int, record: int = EVENT.size) -> None:
        page = mmap.PAGESIZE
        self._record = record
        self._stride = (RING_HEADER + record + 7) & ~7
        self._mask = size - 1
        self._data_at = page
        try:
            self._consumer = mmap.mmap(fd, page, mmap.MAP_SHARED)
            self._producer = mmap.mmap(
                fd, page + size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page
            )
        except OSError as error:
            raise HopliteError(
                f"cannot map the ring buffer: {error.strerror}",
                fix="this needs Linux 5.8 or newer",
            ) from error

    def drain(self) -> bytes:
        """Every finished record's payload since the last call, one after the other."""
        start = position = _POSITION.unpack_from(self._consumer)[0]
        end = _POSITION.unpack_from(self._producer)[0]
        records = bytearray()
        while position < end:
            at = self._data_at + (position & self._mask)
            header = _HEADER.unpack_from(self._producer, at)[0]
            if header & _BUSY:
                break  # reserved, not submitted yet; later ones wait behind it
            if not header & _DISCARDED:
                self._copy(at + RING_HEADER, records)
            position += self._stride
        if position != start:
            _POSITION.pack_into(self._consumer, 0, position)
        return bytes(records)

    def close(self) -> None:
        self._consumer.close()
        self._producer.close()

    def _copy(self, at: int, records: bytearray) -> None:
        payload = self._producer[at : at + self._record]
        records += payload
        if rest := self._record - len(payload):
            records += self._producer[self._data_at : self._data_at + rest]
