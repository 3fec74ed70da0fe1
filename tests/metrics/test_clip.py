"""CLIP scores on features whose angles are known."""

import math

import pytest
import torch

from freestyle_core.errors import ShapeError
from freestyle_core.metrics.clip import (
    clip_consistency,
    clip_direction,
    clip_gain,
    clip_identity,
    clip_min_pair,
    clip_text,
)


def at(*degrees):
    """Return unit vectors [N,2] in a plane."""
    angle = torch.tensor([math.radians(d) for d in degrees], dtype=torch.float64)
    return torch.stack([angle.cos(), angle.sin()], 1)


def cos(degrees):
    return math.cos(math.radians(degrees))


def test_text_score_is_the_mean_raw_cosine():
    assert clip_text(at(0, 60), at(0)) == pytest.approx(0.75)  # (1 + 1/2) / 2
    assert clip_text(at(0, 60), at(0)[0]) == pytest.approx(0.75)
    assert clip_text(at(120), at(0)) == pytest.approx(-0.5)  # not cut off at 0


def test_gain_is_over_the_original_whatever_their_number():
    assert clip_gain(at(60, 60), at(90), at(0)) == pytest.approx(0.5)
    assert clip_gain(at(90), at(60, 60, 60), at(0)) == pytest.approx(-0.5)


def test_direction_compares_changes_not_places():
    # from 0 to 2a on the circle is a chord at 90 + a degrees
    images, originals = at(40, 100), at(0, 0)
    text, neutral = at(80), at(0)  # a chord at 130 degrees
    expected = (cos(130 - 110) + cos(140 - 130)) / 2
    assert clip_direction(images, originals, text, neutral) == pytest.approx(expected)
    # twice the change in the same direction is the same direction
    pictures = torch.tensor([[0.6, 0.8, 0.0], [0.0, 1.0, 0.0]])
    before = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    both = clip_direction(pictures, before, torch.eye(3)[1], torch.eye(3)[0])
    first = clip_direction(pictures[:1], before[:1], torch.eye(3)[1], torch.eye(3)[0])
    chord = (0.4 + 0.8) / math.sqrt((0.16 + 0.64) * 2)  # (-0.4, 0.8) and (-1, 1)
    assert first == pytest.approx(chord) and both == pytest.approx((chord + 1) / 2)


def test_a_picture_that_stays_counts_as_nothing():
    assert clip_direction(at(0, 90), at(0, 0), at(90), at(0)) == pytest.approx(0.5)
    assert clip_direction(at(30), at(30), at(90), at(0)) == 0.0
    assert clip_consistency(at(10, 20), at(10, 20)) == 0.0


def test_consistency_goes_round_and_joins_the_ends():
    # chords from 0 to these stand at 95, 105 and 125 degrees
    value = clip_consistency(at(10, 30, 70), at(0, 0, 0))
    assert value == pytest.approx((cos(10) + cos(20) + cos(30)) / 3)
    # the same change of every frame, each from its own place, is one direction only if the
    # places are one
    same = clip_consistency(at(40, 40, 40), at(0, 0, 0))
    assert same == pytest.approx(1.0)
    assert clip_consistency(at(40, 130, 220, 310), at(0, 90, 180, 270)) == pytest.approx(0.0)


def test_the_least_similar_pair_is_named():
    value, first, second = clip_min_pair(at(0, 50, 10, -30))
    assert (first, second) == (1, 3) and value == pytest.approx(cos(80))


def test_identity_goes_camera_by_camera():
    assert clip_identity(at(0, 90), at(60, 90)) == pytest.approx(0.75)
    assert clip_identity(at(0, 90), at(90, 60)) == pytest.approx(cos(30) / 2)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: clip_text(2 * at(0), at(0)), "length one, got 2"),
        (lambda: clip_text(at(0), at(0) * float("nan")), "length one"),
        (lambda: clip_text(at(0), torch.eye(3)[:1].double()), r"\[N,2\] from one model"),
        (lambda: clip_text(at(0)[:0], at(0)), r"got \(0, 2\)"),
        (lambda: clip_direction(at(0, 1), at(0), at(0), at(9)), "got 2 and 1"),
        (lambda: clip_consistency(at(0, 1, 2), at(0, 1)), "got 3 and 2"),
        (lambda: clip_consistency(at(0), at(1)), "at least 2 frames"),
        (lambda: clip_min_pair(at(0)), "at least 2 pictures"),
        (lambda: clip_identity(at(0, 1, 2), at(0)), "got 3 and 1"),
    ],
)
def test_what_cannot_be_scored_is_refused(call, words):
    with pytest.raises(ShapeError, match=words):
        call()
