"""The ring buffer's consumer, on a file that is laid out like the kernel's memory."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from nodeagent.datapath.ring import Ring
from nodeagent.layout import EVENT, RING_HEADER

PAGE = mmap.PAGESIZE
SIZE = PAGE
STRIDE = RING_HEADER + EVENT.size
BUSY, DISCARDED = 1 << 31, 1 << 30


@dataclass
class Kernel:
    """The producer's end."""

    fd: int
    position: int = 0
    written: list[bytes] = field(default_factory=list)

    def write(self, count: int, flags: int = 0) -> bytes:
        """Put records into the buffer; they are numbered."""
        made = b""
        for _ in range(count):
            payload = len(self.written).to_bytes(4, "little") * (EVENT.size // 4)
            record = (EVENT.size | flags).to_bytes(RING_HEADER, "little") + payload
            for i, octet in enumerate(record):
                os.pwrite(self.fd, bytes([octet]), 2 * PAGE + (self.position + i) % SIZE)
            self.position += STRIDE
            self.written.append(payload)
            made += payload
        os.pwrite(self.fd, self.position.to_bytes(8, "little"), PAGE)
        return made

    @property
    def consumed(self) -> int:
        return int.from_bytes(os.pread(self.fd, 8, 0), "little")


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    fd = os.memfd_create("ring")
    os.truncate(fd, 2 * PAGE + SIZE)
    yield Kernel(fd)
    os.close(fd)


@pytest.fixture
def ring(kernel: Kernel) -> Iterator[Ring]:
    made = Ring(kernel.fd, SIZE)
    yield made
    made.close()


def test_an_empty_buffer_has_no_records(ring: Ring) -> None:
    assert ring.drain() == b""


def test_records_come_once_and_whole_wherever_the_buffer_begins_anew(
    kernel: Kernel, ring: Ring
) -> None:
    """A stride that does not divide the buffer puts its end at every place of a record."""
    assert SIZE % STRIDE
    for _ in range(SIZE // 8):
        written = kernel.write(7)
        assert ring.drain() == written
        assert kernel.consumed == kernel.position
    assert ring.drain() == b""


def test_a_full_buffer_is_drained_at_once(kernel: Kernel, ring: Ring) -> None:
    kernel.write(3)
    ring.drain()
    written = kernel.write(SIZE // STRIDE)
    assert ring.drain() == written


def test_a_record_that_is_being_written_keeps_later_ones_waiting(
    kernel: Kernel, ring: Ring
) -> None:
    first = kernel.write(1)
    kernel.write(1, BUSY)
    later = kernel.write(1)
    assert ring.drain() == first
    os.pwrite(kernel.fd, EVENT.size.to_bytes(4, "little"), 2 * PAGE + STRIDE)
    assert ring.drain() == kernel.written[1] + later


def test_a_discarded_record_is_passed_over(kernel: Kernel, ring: Ring) -> None:
    kernel.write(1, DISCARDED)
    written = kernel.write(1)
    assert ring.drain() == written
    assert kernel.consumed == kernel.position
