import datetime as dt

import pytest

from hopctl.errors import UsageError
from hopctl.when import ago, duration, instant, lasted

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("2d", 172_800),
        ("1.5s", 1.5),
        ("200ms", 0.2),
        ("1d1h1m1s", 90_061),
    ],
)
def test_durations(text, seconds):
    assert duration(text, "--ttl") == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "-5m", "5m3h", "5x", "1.5h"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(UsageError, match=r"--ttl: .* is not a duration; write e\.g\."):
        duration(text, "--ttl")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5m", NOW - 300),
        ("1700000000", 1_700_000_000),
        ("1700000000.25", 1_700_000_000.25),
        ("2026-01-01T00:00:00Z", 1_767_225_600),
        ("2026-01-01T01:00:00+01:00", 1_767_225_600),
    ],
)
def test_instants(text, seconds):
    assert instant(text, "--since", NOW) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["yesterday", "", "nan", "inf", "2026-13-01", "12:00"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(UsageError, match=r"--since: .* is not a time"):
        instant(text, "--since", NOW)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0s"), (59, "59s"), (60, "1m"), (61, "1m1s"), (3600, "1h"), (90_000, "1d1h"), (-5, "0s")],
)
def test_ages(seconds, shown):
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    born = (now - dt.timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
    assert ago(born, now) == shown
    assert ago("", now) == ""


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [(0.04, "0.0 ms"), (999.9, "999.9 ms"), (1000, "1.0 s"), (30_042, "30.0 s"), (90e6, "1d1h")],
)
def test_what_something_lasted(milliseconds, shown):
    assert lasted(milliseconds) == shown
