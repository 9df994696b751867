"""As much of HTTP/1.1 as a health check needs: a request, and the status of its answer. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from meshapi import __version__
from meshapi.resources.traffic import HealthCheck

MOST = 16_384  # bytes of an answer that are looked at: its status, and interim ones before it
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r?\n")
_END = re.compile(rb"\r?\n\r?\n")
_LONGEST_LINE = 4096
_SWITCHING = 101  # the one interim status that nothing follows


class AnswerError(Exception):
    """It does not speak HTTP."""


def request(check: HealthCheck, address: str, port: int) -> bytes:
    """A GET that asks for the connection to be closed; the path has been checked."""
    bracketed = f"[{address}]" if ":" in address else address
    host = check.host or f"{bracketed}:{port}"
    return (
        f"GET {check.path} HTTP/1.1\r\n"
        f"Host: {host}\r\n"
        f"User-Agent: hoplite-health/{__version__}\r\n"
        "Accept: */*\r\n"
        "Connection: close\r\n\r\n"
    ).encode()


def status(received: bytes) -> int | None:
    """The final status of an answer; None while it has not come.

    Interim answers (1xx) are passed over, headers and body are never looked at.
    """
    at = 0
    while True:
        match = _STATUS.match(received, at)
        if match is None:
            line, newline, _ = received[at:].partition(b"\n")
            if newline or len(line) > _LONGEST_LINE or not _begins_well(line):
                raise AnswerError(f"not an HTTP answer: {line[:40]!r}")
            return None
        code = int(match[1])
        if code >= 200 or code == _SWITCHING:
            return code
        end = _END.search(received, match.end() - 2)
        if end is None:
            if len(received) > MOST:
                raise AnswerError("nothing but interim answers")
            return None
        at = end.end()


def expected(code: int, wanted: Iterable[str]) -> bool:
    """Whether a status is among codes and ranges such as ``200-399``, which have been checked."""
    for text in wanted:
        first, _, last = text.partition("-")
        if int(first) <= code <= int(last or first):
            return True
    return False


def _begins_well(line: bytes) -> bool:
    start = b"HTTP/1."
    return line.startswith(start) or start.startswith(line)
