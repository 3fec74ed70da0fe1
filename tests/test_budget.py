"""What a time budget pays for."""

from dataclasses import replace

import pytest

from freestyle_core.budget import Budget, Costs, check_budget
from freestyle_core.errors import InputError
from freestyle_core.presets import BALANCED

COSTS = Costs(view=0.1, edit=0.4, mesh=4.0)
ONE = BALANCED.but(frames=73).settings("an elf")  # 80 views are shown: 8 s, mesh 4, files 3
TWO = BALANCED.but(frames=73).settings("an elf", "sand")


def budget(seconds):
    return Budget(100.0 + seconds, clock=lambda: 100.0)


def test_what_is_shown_comes_after_training_and_for_each_style():
    assert COSTS.shown(ONE) == pytest.approx(15)
    mixed = (TWO.mix_frames + 3 * TWO.mix_steps) * 0.1
    assert COSTS.shown(TWO) == pytest.approx(30 + mixed)
    assert budget(45).training_seconds(ONE, COSTS) == pytest.approx(30)


def test_a_grid_is_chosen_that_leaves_time_to_learn_it():
    # 45 s less 15 leave 30, of which 12 may be edits: 5 x 5 + 1 views at 0.5 s are 13 s, 17 8.5
    made = budget(45).planned(ONE, COSTS)
    assert (made.views, made.tune.iterations) == (4, 4 * 17)
    made = budget(15 + 13 / 0.4 + 0.1).planned(ONE, COSTS)
    assert (made.views, made.tune.iterations) == (5, 4 * 26)
    assert replace(made, views=5, tune=ONE.tune) == replace(ONE, views=5)
    assert budget(1e6).planned(ONE, COSTS).views == 10


def test_two_styles_are_edited_twice_and_take_turns():
    # 26 views cost 0.9 s each
    shown = COSTS.shown(TWO)
    assert budget(shown + 26 * 0.9 / 0.4 - 0.1).planned(TWO, COSTS).views == 4
    made = budget(shown + 26 * 0.9 / 0.4 + 0.1).planned(TWO, COSTS)
    assert (made.views, made.tune.iterations) == (5, 4 * 26 * 2)


def test_too_short_a_time_makes_the_smallest_run_and_says_so(caplog):
    assert budget(3).planned(ONE, COSTS).views == 2
    assert "short" in caplog.text


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_budget_is_a_time(seconds):
    with pytest.raises(InputError, match="time budget"):
        check_budget(seconds)
