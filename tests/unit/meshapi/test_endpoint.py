from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshapi.endpoint import Endpoint, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", "192.0.2.1:53"),
        ("192.0.2.1:5353", "192.0.2.1:5353"),
        ("2001:DB8::0:1", "[2001:db8::1]:53"),
        ("[2001:db8::1]", "[2001:db8::1]:53"),
        ("[2001:db8::1]:5353", "[2001:db8::1]:5353"),
        ("::1", "[::1]:53"),
        ("fe80::1%eth0", "[fe80::1%eth0]:53"),
    ],
)
def test_an_address_with_or_without_a_port(text: str, expected: str) -> None:
    assert str(parse(text, 53)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost",
        "192.0.2.1:",
        "192.0.2.1:0",
        "192.0.2.1:65536",
        "192.0.2.1:123456",
        "192.0.2.1:x",
        "192.0.2.256",
        "192.0.2",
        "[192.0.2.1",
        "[::1]x",
        "[::1]:",
        "[]:53",
        "::1]:53",
        " 192.0.2.1",
        "192.0.2.1\n",
    ],
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text, 53)


@given(address=st.ip_addresses(), port=st.integers(1, 65535))
def test_what_is_written_is_read(address: object, port: int) -> None:
    endpoint = Endpoint(str(address), port)
    assert parse(str(endpoint), 1) == endpoint


@given(st.text())
def test_any_text_is_an_endpoint_or_a_value_error(text: str) -> None:
    try:
        assert 1 <= parse(text, 53).port <= 65535
    except ValueError:
        return
