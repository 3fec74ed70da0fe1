"""As many steps as fit into a time."""

import pytest

from freestyle_core.training.pace import SHARE, Pace


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def walk(seconds, times, most=1000):
    """Return how many steps were made and when the last ended, if step i takes times(i)."""
    clock = Clock()
    pace = Pace(most, seconds, clock)
    made = 0
    while not pace.over:
        clock.now += times(made)
        made += 1
        pace.stepped()
    return made, clock.now - 100.0


def test_even_steps_fill_the_time_and_do_not_pass_it():
    made, ended = walk(10.0, lambda step: 0.1)
    assert (made, ended) == (97, pytest.approx(10 * SHARE))


def test_a_slow_first_step_does_not_set_the_pace():
    made, ended = walk(10.0, lambda step: 5.0 if step == 0 else 0.1)
    assert (made, ended) == (48, pytest.approx(9.7))  # 4.7 s are left for the others


def test_steps_that_become_slower_end_in_time_too():
    made, ended = walk(10.0, lambda step: 0.1 if step < 50 else 0.2)
    assert 9.0 < ended <= 10.0
    assert made == 50 + 23


def test_there_is_one_step_at_least_and_never_more_than_asked_for():
    assert walk(0.01, lambda step: 3.0) == (1, pytest.approx(3.0))
    assert walk(1e6, lambda step: 0.1, most=7)[0] == 7
