from controller.pace import Pace


def allowed(pace, times, subject="x"):
    return [t for t in times if pace.allows(subject, t)]


def test_a_few_changes_go_at_once_and_then_one_in_a_while():
    assert allowed(Pace(every=5.0, burst=3), range(100, 120)) == [100, 101, 102, 105, 110, 115]


def test_who_was_quiet_may_hurry_again():
    pace = Pace(every=5.0, burst=2)
    assert allowed(pace, [0.0, 0.0, 0.0]) == [0.0, 0.0]
    assert allowed(pace, [60.0, 60.0, 60.0]) == [60.0, 60.0]


def test_nobody_pays_for_another():
    pace = Pace(every=5.0, burst=1)
    assert pace.allows("a", 0.0)
    assert pace.allows("b", 0.0)
    assert not pace.allows("a", 1.0)


def test_the_quiet_are_forgotten():
    pace = Pace(every=5.0, burst=1)
    for second in range(100_000):
        assert pace.allows(second, float(second))
    assert len(pace) <= 1024
