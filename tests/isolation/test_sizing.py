"""How many databases to have ready: enough that nobody waits, and no more."""

import pytest

from session_fix.isolation.sizing import LIMIT, smoothed, wanted

SECONDS = {
    "nothing is known": (None, None, 1),
    "nobody asked twice": (0.03, None, 1),
    "nothing was made": (None, 0.03, 1),
    "tests are slow": (0.03, 2.0, 1),
    "tests are a little slower": (0.03, 0.031, 1),
    "tests are as fast": (0.03, 0.03, 2),
    "tests are three times as fast": (0.03, 0.01, LIMIT),
    "tests do nothing": (0.03, 0.000001, LIMIT),
    "a clock that stood still": (0.03, 0.0, 1),
    "nothing to make": (0.0, 0.03, 1),
}


@pytest.mark.parametrize(("making_s", "between_s", "ready"), SECONDS.values(), ids=SECONDS)
def test_what_is_ready_follows_from_who_asks_how_often(making_s, between_s, ready):
    """One is always there for the next test; more only when one cannot be made between two."""
    assert wanted(making_s, between_s) == ready


def test_more_speed_never_means_fewer():
    """Else the pool would run dry just when it is needed."""
    asked = [wanted(0.03, 1 / often) for often in range(1, 1000)]
    assert asked == sorted(asked)
    assert set(asked) == set(range(1, LIMIT + 1))


def test_the_first_measurement_is_all_there_is():
    """There is nothing to smooth it with."""
    assert smoothed(None, 3.0) == 3.0


def test_one_measurement_does_not_decide():
    """One slow test among fast ones must not empty the pool."""
    assert smoothed(1.0, 101.0) == pytest.approx(21.0)


def test_a_new_pace_is_believed_in_the_end():
    """A class of slow tests follows on one of fast ones."""
    average = 1.0
    for _ in range(50):
        average = smoothed(average, 5.0)
    assert average == pytest.approx(5.0, abs=0.01)
