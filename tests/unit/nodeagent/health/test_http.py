"""The status of an HTTP answer, however it comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshapi.resources.traffic import HealthCheck
from nodeagent.health.http import MOST, AnswerError, expected, request, status


@pytest.mark.parametrize(
    ("received", "code"),
    [
        (b"HTTP/1.1 200 OK\r\n", 200),
        (b"HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n", 404),
        (b"HTTP/1.1 204\r\n", 204),
        (b"HTTP/1.1 503 \r\n", 503),
        (b"HTTP/1.1 200 OK\n", 200),
        (b"HTTP/1.1 301 Moved\r\nLocation: http://elsewhere/\r\n\r\n", 301),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\n", 200),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 x\r\n\r\nHTTP/1.1 500 no\r\n", 500),
        (b"HTTP/1.1 101 Switching Protocols\r\n", 101),
        (b"HTTP/1.1 200 " + b"x" * 2000 + b"\r\n", 200),
        (b"", None),
        (b"HT", None),
        (b"HTTP/1.1 2", None),
        (b"HTTP/1.1 200 OK", None),
        (b"HTTP/1.1 100 Continue\r\nx: y", None),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTT", None),
    ],
)
def test_status(received: bytes, code: int | None) -> None:
    assert status(received) == code


@pytest.mark.parametrize(
    "received",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"x",
        b"HTTP/2 200\r\n",
        b"HTTP/1.1 2000 OK\r\n",
        b"HTTP/1.1 999 OK\r\n",
        b"HTTP/1.1 abc\r\n",
        b"HTTP/1.1  200 OK\r\n",
        b"\x16\x03\x01\x02\x00",
        b"HTTP/1.1 200 " + b"x" * 9000,
        b"HTTP/1.1 100 Continue\r\n\r\nGET / HTTP/1.1\r\n",
        b"HTTP/1.1 100 Continue\r\n" + b"x: y\r\n" * (MOST // 6 + 1),
        b"PRI * HTTP/2.0\r\n\r\n",
    ],
)
def test_what_is_no_answer(received: bytes) -> None:
    with pytest.raises(AnswerError):
        status(received)


@given(st.integers(200, 599), st.text("abc \t", max_size=20), st.binary(max_size=50))
def test_it_does_not_matter_where_the_pieces_end(code: int, reason: str, rest: bytes) -> None:
    whole = f"HTTP/1.1 {code} {reason}\r\n".encode() + rest
    line = whole.index(b"\n") + 1
    for end in range(len(whole) + 1):
        assert status(whole[:end]) == (code if end >= line else None)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_status_or_an_error_or_not_enough(received: bytes) -> None:
    try:
        code = status(received)
    except AnswerError:
        return
    assert code is None or 101 <= code <= 599


@pytest.mark.parametrize(
    ("code", "wanted", "well"),
    [
        (200, ("200-399",), True),
        (399, ("200-399",), True),
        (400, ("200-399",), False),
        (404, ("200", "404"), True),
        (403, ("200", "404"), False),
        (500, ("100-599",), True),
    ],
)
def test_expected(code: int, wanted: tuple[str, ...], well: bool) -> None:
    assert expected(code, wanted) is well


def test_the_request_names_the_host() -> None:
    assert b"\r\nHost: 10.0.0.1:80\r\n" in request(HealthCheck(), "10.0.0.1", 80)
    assert b"\r\nHost: [fd00::1]:80\r\n" in request(HealthCheck(), "fd00::1", 80)
    check = HealthCheck(protocol="HTTP", path="/a?b=c", host="web.shop")
    text = request(check, "10.0.0.1", 80)
    assert text.startswith(b"GET /a?b=c HTTP/1.1\r\nHost: web.shop\r\n")
    assert text.endswith(b"\r\n\r\n")
