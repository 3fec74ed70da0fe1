"""Roughness of surfaces whose normals can be written down."""

import math

import pytest
import torch

from freestyle_core.metrics.surface import normal_deviation, roughness
from tests.spheres import NOSE, balls, row


def grid(height):  # [h,w] -> points [1,3,h,w] one unit apart, and all of them valid
    v, u = torch.meshgrid(
        *(torch.arange(n, dtype=torch.float32) for n in height.shape), indexing="ij"
    )
    points = torch.stack([u, v, height])[None]
    return points, torch.ones(1, 1, *height.shape, dtype=torch.bool)


def test_a_slope_is_smooth_and_a_zigzag_is_not():
    u = torch.arange(12).float().expand(12, 12)
    assert normal_deviation(*grid(0.7 * u)).item() == pytest.approx(0, abs=1e-3)
    # z = +-a in turn: steps of 2a up and down, so normals lean by atan(2a) to either side in turn;
    # a window of 5 columns has 3 of one and 2 of the other: their mean leans by atan(2a / 5)
    a = 0.2
    expected = math.degrees(math.atan(2 * a) - math.atan(2 * a / 5))
    assert normal_deviation(*grid(a * (1 - 2 * (u % 2)))).item() == pytest.approx(
        expected, abs=1e-3
    )


def test_an_edge_between_two_parts_does_not_count():
    height = torch.zeros(24, 24)
    height[:, 12:] = 9.0  # far behind: a step of sqrt(82), six are allowed
    assert normal_deviation(*grid(height)).item() == pytest.approx(0, abs=1e-3)
    height[:, 12:] = 3.0
    assert normal_deviation(*grid(height)).item() > 1


def test_a_ball_is_smooth_until_its_depth_is_noisy():
    views = balls(row(0.0, 20.0), 48)
    smooth = roughness(views.depth, views.alpha, views.cameras)
    assert smooth.max() < 1.5
    noise = torch.randn(views.depth.shape, generator=torch.Generator().manual_seed(0))
    levels = [
        roughness(views.depth + x * noise, views.alpha, views.cameras).mean()
        for x in (0.0, 0.001, 0.002, 0.004)
    ]
    assert levels == sorted(levels) and levels[3] > 5 * levels[0]


def test_a_smaller_ball_in_front_hardly_adds_to_it():
    one, two = (
        balls(row(0.0), 64, spheres=s) for s in ((((0, 0, 0), 0.25),), (((0, 0, 0), 0.25), NOSE))
    )
    a, b = (roughness(v.depth, v.alpha, v.cameras).item() for v in (one, two))
    assert b < a + 1


def test_nothing_to_see_is_not_smooth():
    views = balls(row(0.0, 0.0), 16)
    alpha = views.alpha.clone()
    alpha[1] = 0
    rough = roughness(views.depth, alpha, views.cameras)
    assert rough[0].isfinite() and rough[1].isnan()
