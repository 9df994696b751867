"""Names and records as octets: their limits. What they mean is tested with whole messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.dns.wire import (
    HEADER,
    MalformedError,
    TooLongError,
    Writer,
    read_name,
    skip_name,
    writable,
)

QUESTION = b"\3web\4shop\0\0\1\0\1"


def test_a_name_is_read_in_lower_case() -> None:
    assert read_name(b"??\3WeB\4shop\0more", 2) == (("web", "shop"), 12)
    assert read_name(b"\0", 0) == ((), 1)


def test_a_name_has_at_most_255_octets() -> None:
    label = b"\x3f" + b"x" * 63
    longest = label * 3 + b"\x3d" + b"x" * 61 + b"\0"
    assert len(longest) == 255
    name, end = read_name(longest, 0)
    assert end == 255
    assert writable(name)
    with pytest.raises(MalformedError):
        read_name(label * 3 + b"\x3e" + b"x" * 62 + b"\0", 0)
    assert not writable((*name[:3], "x" * 62))
    assert not writable(("x" * 64,))
    assert not writable(("a", "", "b"))


def test_a_name_may_end_elsewhere_only_where_it_is_passed_over() -> None:
    wire = b"\3web\xc0\x0cmore"
    assert skip_name(wire, 0) == 6
    with pytest.raises(MalformedError):
        read_name(wire, 0)


@given(wire=st.binary(max_size=300), offset=st.integers(0, 310))
def test_any_octets_are_a_name_or_none(wire: bytes, offset: int) -> None:
    try:
        name, end = read_name(wire, offset)
    except MalformedError:
        pass
    else:
        assert writable(name)
        assert skip_name(wire, offset) == end <= len(wire)
    try:
        assert skip_name(wire, offset) > offset
    except MalformedError:
        return


def test_a_record_that_does_not_fit_leaves_the_rest_as_it_was() -> None:
    room = HEADER.size + len(QUESTION) + 16
    writer = Writer(QUESTION, ("web", "shop"), room)
    writer.address(1, ("web", "shop"), 5, "192.0.2.1")
    with pytest.raises(TooLongError):
        writer.address(1, ("web", "shop"), 5, "192.0.2.2")
    with pytest.raises(TooLongError):
        writer.pointer(1, ("web", "shop"), 5, ("x",))
    wire = writer.finish(7, 0, b"")
    assert len(wire) == room
    assert HEADER.unpack_from(wire) == (7, 0, 1, 1, 0, 0)


def test_a_name_is_pointed_at_only_as_far_as_a_pointer_reaches() -> None:
    writer = Writer(QUESTION, ("web", "shop"), 65535)
    while len(writer.finish(0, 0, b"")) < 1 << 14:
        writer.pointer(1, ("web", "shop"), 5, ("x" * 60, "y" * 60))
    writer.address(3, ("far", "away"), 5, "192.0.2.1")
    before = len(writer.finish(0, 0, b""))
    writer.address(3, ("far", "away"), 5, "192.0.2.1")
    assert writer.finish(0, 0, b"")[before:].startswith(b"\3far\4away\0")
