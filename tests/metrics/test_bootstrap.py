"""Means over styles and heads, and their bounds."""

import math

import pytest
import torch

from freestyle_core.errors import InputError, ShapeError
from freestyle_core.metrics.bootstrap import Interval, bootstrap

NAN = float("nan")


def test_equal_scores_have_no_spread_whatever_is_missing():
    scores = torch.full((4, 3), 0.25)
    scores[1, 2] = NAN
    assert bootstrap(scores) == Interval(0.25, 0.25, 0.25, 11)


def test_one_pair_has_a_mean_and_no_bounds_and_none_has_nothing():
    scores = torch.tensor([[NAN, 2.0], [NAN, NAN]])
    assert bootstrap(scores) == Interval(2.0, None, None, 1)
    assert bootstrap(torch.full((2, 2), NAN)) is None


def test_two_scores_of_one_head_are_drawn_like_coins():
    # of two draws from {0, 1} the mean is 0, 1/2, 1 with chances 1/4, 1/2, 1/4
    coins = torch.tensor([[0.0], [1.0]])
    wide, narrow = bootstrap(coins, level=0.6), bootstrap(coins, level=0.4)
    assert (wide.mean, wide.low, wide.high) == (0.5, 0.0, 1.0)
    assert (narrow.low, narrow.high) == (0.5, 0.5)
    turned = bootstrap(coins.T, level=0.6)
    assert (turned.low, turned.high) == (0.0, 1.0)


def test_both_styles_and_heads_are_drawn():
    styles = torch.linspace(-1, 1, 12)[:, None]
    heads = torch.linspace(-2, 2, 8)[None]
    found = bootstrap(styles + heads, draws=20_000)
    variance = float(styles.var(unbiased=False) / 12 + heads.var(unbiased=False) / 8)
    half = 1.96 * math.sqrt(variance)  # nearly normal
    assert found.mean == pytest.approx(0, abs=1e-6)
    assert found.high == pytest.approx(half, rel=0.05) and found.low == pytest.approx(
        -half, rel=0.05
    )
    # heads alone would be narrower than both
    assert bootstrap(heads.expand(12, 8), draws=20_000).high < found.high


def test_the_mean_is_that_of_the_measured_pairs_and_bounds_enclose_it():
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(6, 4, generator=generator)
    scores[torch.rand(6, 4, generator=generator) < 0.4] = NAN
    found = bootstrap(scores)
    known = scores[~scores.isnan()]
    assert found.count == len(known)
    assert found.mean == pytest.approx(float(known.mean()), abs=1e-6)
    assert known.min() <= found.low < found.mean < found.high <= known.max()
    # a shift and a scale move everything alike; the same seed draws the same
    other = bootstrap(scores * 2 + 1)
    for name in ("mean", "low", "high"):
        assert getattr(other, name) == pytest.approx(2 * getattr(found, name) + 1, abs=1e-5)


def test_wrong_scores_and_levels_are_refused():
    with pytest.raises(ShapeError, match=r"\[S,H\] of styles and heads, got \(3,\)"):
        bootstrap(torch.zeros(3))
    with pytest.raises(InputError, match="level must lie between 0 and 1"):
        bootstrap(torch.zeros(2, 2), level=1.0)
