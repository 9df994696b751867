"""Durations and points in time as people write them. Pure."""

from __future__ import annotations

import datetime as dt
import re

from hopctl.errors import UsageError

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?")
_SECONDS = (86_400.0, 3600.0, 60.0, 1.0, 0.001)


def duration(text: str, flag: str) -> float:
    """Seconds of ``90s``, ``5m``, ``1h30m``, ``2d``."""
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise UsageError(
            f"{text!r} is not a duration", where=flag, fix="write e.g. 30s, 5m or 1h30m"
        )
    return sum(float(n) * unit for n, unit in zip(match.groups(), _SECONDS, strict=True) if n)


def instant(text: str, flag: str, now: float) -> float:
    """Seconds since the epoch of ``5m`` (so long ago), an RFC 3339 time, or epoch seconds."""
    match = _DURATION.fullmatch(text)
    if text and match:
        return now - duration(text, flag)
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"{text!r} is not a time",
            where=flag,
            fix="write e.g. 5m, 2026-01-31T12:00:00Z or seconds since the epoch",
        ) from error
    return moment.astimezone().timestamp() if moment.tzinfo is None else moment.timestamp()


def ago(timestamp: str, now: dt.datetime) -> str:
    """How long ago an RFC 3339 time was, in its two largest units."""
    if not timestamp:
        return ""
    return _spelled(int(max(0.0, (now - dt.datetime.fromisoformat(timestamp)).total_seconds())))


def lasted(milliseconds: float) -> str:
    """How long something took, in three or four digits or its two largest units."""
    if milliseconds < 1000:
        return f"{milliseconds:.1f} ms"
    seconds = milliseconds / 1000
    return f"{seconds:.1f} s" if seconds < 60 else _spelled(int(seconds))


def _spelled(seconds: int) -> str:
    for unit, size, lower, lower_size in (
        ("d", 86_400, "h", 3600),
        ("h", 3600, "m", 60),
        ("m", 60, "s", 1),
    ):
        if seconds >= size:
            rest = seconds % size // lower_size
            return f"{seconds // size}{unit}{rest}{lower}" if rest else f"{seconds // size}{unit}"
    return f"{seconds}s"
