"""Views that do not fit the others are found, by nothing but their warps."""

import pytest
import torch

from freestyle_core.geometry.cameras import grid_cameras
from freestyle_core.metrics.disagreement import (
    LIMIT,
    deviations,
    view_disagreement,
    view_weights,
)
from tests.spheres import RIG, balls


def auc(score, bad):
    """Return how often a bad view scores above a good one."""
    pairs = score[bad][:, None] - score[~bad]
    return float((pairs > 0).float().mean() + (pairs == 0).float().mean() / 2)


def test_views_of_another_paint_are_found():
    cameras = grid_cameras(5, RIG)
    generator = torch.Generator().manual_seed(0)
    views = balls(cameras, 32, turn=0.05 * torch.randn(26, generator=generator))
    other = balls(cameras, 32, turn=0.5)
    bad = torch.zeros(26, dtype=torch.bool)
    bad[[3, 12, 25]] = True
    images = torch.where(bad[:, None, None, None], other.image, views.image)
    score = view_disagreement(images, views.depth, views.alpha, cameras)
    assert auc(score, bad) == 1.0
    assert 0.7 < score[~bad].median() < 1.3 and score[bad].min() > 2
    weights = view_weights(score)
    assert weights[bad].max() < 0.3 and weights[~bad].min() > 0.4


def test_views_farther_apart_may_differ_more():
    # paint that slides evenly with the camera: every pair differs as its angle says
    cameras = grid_cameras(5, RIG)
    yaw = torch.atan2(cameras.cam_to_world[:, 0, 3], cameras.cam_to_world[:, 2, 3])
    views = balls(cameras, 32, turn=0.3 * yaw)
    score = view_disagreement(views.image, views.depth, views.alpha, cameras)
    assert view_weights(score).min() > 0.4


def test_weights_fall_with_the_fourth_power_beyond_the_limit():
    score = torch.tensor([1.0, 0.9, 1.1, 1.0, 0.9, 1.1, 1.0])  # median 1, spread 1.4826 * 0.1
    assert view_weights(score).tolist() == [1.0] * 7
    assert deviations(score)[2].item() == pytest.approx(0.1 / 0.14826, abs=1e-4)
    score[6] = 1 + 2 * LIMIT * 0.14826
    assert view_weights(score).tolist() == pytest.approx([1.0] * 6 + [1 / 16], abs=1e-3)


def test_equal_views_are_not_told_apart_by_dust():
    score = torch.ones(10)
    score[3] += 1e-3  # a spread of 0 would make anything of it
    assert view_weights(score).tolist() == [1.0] * 10


def test_a_view_that_shares_nothing_is_left_in_peace():
    cameras = grid_cameras(3, RIG)
    views = balls(cameras, 32)
    alpha = views.alpha.clone()
    alpha[4] = 0
    score = view_disagreement(views.image, views.depth, alpha, cameras)
    assert score[4] == 1.0 and score.isfinite().all()
    two = balls(cameras[:2], 32)
    assert view_disagreement(two.image, two.depth, two.alpha, two.cameras).isfinite().all()
