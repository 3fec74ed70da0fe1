"""Noise that sticks to a ball: white in every view, the same where two views see the same point."""

import math

import numpy as np
import pytest
import torch

from freestyle_core.errors import ShapeError
from freestyle_core.geometry.surface_noise import _numbers, _owners, surface_noise
from freestyle_core.geometry.warps import warped, warps_between
from tests.spheres import balls, row

SIDE, CHANNELS = 24, 24


def screen(seed=0):
    shape = (1, CHANNELS, SIDE, SIDE)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def noise_of(views, seed=0):
    return surface_noise(views.depth, views.alpha, views.cameras, screen(), seed)


@pytest.fixture(scope="module")
def views():
    return balls(row(0.0, 8.0, 25.0), 96, spheres=(((0.0, 0.0, 0.0), 0.29),))


def test_every_view_is_white_noise_of_variance_one(views):
    noise = noise_of(views)
    assert noise.shape == (3, CHANNELS, SIDE, SIDE) and noise.dtype == torch.float32
    for view in noise:
        near = 4 / math.sqrt(view.numel())  # four standard errors
        assert abs(float(view.mean())) < near
        assert abs(float(view.square().mean()) - 1) < near * math.sqrt(2)
        for a, b in ((view[:, 1:], view[:, :-1]), (view[..., 1:], view[..., :-1])):
            assert abs(float((a * b).mean())) < near
        assert abs(float((view[1:] * view[:-1]).mean())) < near  # from channel to channel


def agreement(noise, views, other):
    """Return the correlation of the first view with another, brought to where the first stands."""
    pairs = torch.tensor([[0, other]])
    warps = warps_between(views.depth, views.alpha, views.cameras, pairs, SIDE)
    # the noise of the nearest pixel: a mixed one would be less than noise
    there = torch.nn.functional.grid_sample(
        noise[[other]], warps.grid, mode="nearest", align_corners=False
    )
    seen = warps.seen.expand_as(there)
    assert warped(noise, warps).shape == there.shape
    return float((noise[:1][seen] * there[seen]).mean())


def test_two_views_have_the_same_noise_at_the_same_point(views):
    stuck, shared = noise_of(views), screen().expand(3, -1, -1, -1)
    assert agreement(stuck, views, 1) > 0.6 > 0.5 > agreement(shared, views, 1)
    assert agreement(stuck, views, 2) > 0.5 > 0.1 > agreement(shared, views, 2)
    assert abs(agreement(torch.cat([stuck[:1], noise_of(views, 1)[1:]]), views, 1)) < 0.05


def test_a_view_has_the_same_noise_alone_as_among_others(views):
    together = noise_of(views)
    for view in range(3):
        assert torch.equal(noise_of(views.part([view]))[0], together[view])


def test_where_nothing_is_solid_it_is_the_screens(views):
    empty = surface_noise(views.depth, 0 * views.alpha, views.cameras, screen(), 0)
    torch.testing.assert_close(empty, screen().expand(3, -1, -1, -1))
    corner = noise_of(views)[:, :, 0, 0]
    torch.testing.assert_close(corner, screen()[:, :, 0, 0].expand(3, -1))


def test_the_numbers_of_cubes_are_fixed_for_ever():
    found = _numbers(np.array([0, 1, 2**63], dtype=np.uint64), 2, 7)
    wanted = [
        [1.3747666278, 1.4057911882, 1.6747757696],
        [-0.267720353, -0.6015967704, -0.2815397085],
    ]
    np.testing.assert_allclose(found, wanted, atol=1e-9)


def test_a_cube_belongs_to_the_pixel_that_it_fills_most():
    keys = np.array([5, 5, 5, 9, 9, 7], dtype=np.uint64)
    pixels = np.array([1, 0, 1, 1, 0, 3])
    cubes, owner, samples = _owners(keys, pixels, 4)
    assert cubes.tolist() == [5, 7, 9]
    assert owner.tolist() == [1, 3, 0]  # of equals the lower pixel
    assert samples.tolist() == [2, 1, 1]


def test_depth_of_other_views_and_an_oblong_screen_are_refused(views):
    with pytest.raises(ShapeError, match="of 1 cameras"):
        surface_noise(views.depth, views.alpha, row(0.0), screen(), 0)
    with pytest.raises(ShapeError, match=r"must be \[1,C,H,H\]"):
        surface_noise(views.depth, views.alpha, views.cameras, screen()[..., :5], 0)
