"""When a port changes: after so many answers in a row, and at once if nothing was known of it."""

from __future__ import annotations

import pytest

from meshapi.resources.traffic import HealthCheck
from nodeagent.health.thresholds import Health

CHECK = HealthCheck(healthy_threshold=2, unhealthy_threshold=3)
UP = Health(healthy=True, known=True)
DOWN = Health(healthy=False, known=True)


def told(health: Health, answers: str, check: HealthCheck = CHECK) -> str:
    """``+`` healthy, ``-`` unhealthy after each answer (``y`` or ``n``)."""
    said = ""
    for answer in answers:
        health = health.after(answer == "y", check)
        said += "+" if health.healthy else "-"
    return said


@pytest.mark.parametrize(
    ("before", "answers", "said"),
    [
        (UP, "yyyy", "++++"),
        (UP, "nnn", "++-"),
        (UP, "nnynnynnn", "++++++++-"),
        (DOWN, "nnnn", "----"),
        (DOWN, "yy", "-+"),
        (DOWN, "ynynyy", "-----+"),
        (UP, "nnnyy", "++--+"),
        (Health(), "n", "-"),
        (Health(), "y", "+"),
        (Health(), "ynnn", "+++-"),
        (Health(), "nyy", "--+"),
        (Health(healthy=False), "y", "+"),
        (Health(healthy=False), "n", "-"),
    ],
)
def test_answers_in_a_row(before: Health, answers: str, said: str) -> None:
    assert told(before, answers) == said


def test_thresholds_of_one_follow_every_answer() -> None:
    quick = HealthCheck(healthy_threshold=1, unhealthy_threshold=1)
    assert told(UP, "nynyn", quick) == "-+-+-"


def test_the_largest_thresholds() -> None:
    slow = HealthCheck(healthy_threshold=100, unhealthy_threshold=100)
    assert told(UP, "n" * 100, slow) == "+" * 99 + "-"
    assert told(DOWN, "y" * 100, slow) == "-" * 99 + "+"


def test_a_changed_check_counts_from_where_it_is() -> None:
    health = UP.after(False, CHECK).after(False, CHECK)
    assert health.after(False, HealthCheck(unhealthy_threshold=100)).healthy
    assert not health.after(False, HealthCheck(unhealthy_threshold=2)).healthy
