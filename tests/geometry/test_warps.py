"""Warps on painted balls, whose every view is known exactly, and on numbers worked out by hand."""

import math

import pytest
import torch

from freestyle_core.errors import InputError, ShapeError
from freestyle_core.geometry.cameras import grid_cameras, orbit_cameras
from freestyle_core.geometry.rays import pixel_rays
from freestyle_core.geometry.warps import (
    eroded,
    pairs_at,
    seen_at,
    view_angles,
    warped,
    warps_between,
)
from tests.spheres import BALL, NOSE, RIG, balls, painted, row


def test_a_point_of_a_pixel_is_seen_at_that_pixel():
    cameras = orbit_cameras([20.0, -35.0], [10.0, 5.0], RIG)
    depth = torch.linspace(2.0, 3.0, 2 * 25).view(2, 25, 1)
    points = pixel_rays(cameras, 5).at(depth)
    places, away, ahead = seen_at(cameras, points)
    v, u = torch.meshgrid(torch.arange(5), torch.arange(5), indexing="ij")
    centres = (torch.stack([u, v], dim=-1).flatten(0, 1) + 0.5) / 5
    assert torch.allclose(places, centres.expand(2, -1, -1), atol=1e-5)
    assert torch.allclose(away, depth[..., 0], atol=1e-5) and bool(ahead.all())


def test_skew_and_an_off_centre_lens_are_followed():
    cameras = row(15.0)
    cameras.intrinsics[0, 0, 1] = 0.3
    cameras.intrinsics[0, :2, 2] = torch.tensor([0.4, 0.7])
    points = pixel_rays(cameras, 3).at(torch.full((1, 9, 1), 2.5))
    places = seen_at(cameras, points)[0]
    assert places[0, 5].tolist() == pytest.approx([2.5 / 3, 0.5], abs=1e-5)


def test_what_lies_behind_the_camera_is_not_ahead():
    camera = row(0.0)  # at z = 2.7, looking down
    _, away, ahead = seen_at(camera, torch.tensor([[[0.0, 0.0, 3.0], [0.0, 0.0, 2.0]]]))
    assert ahead.tolist() == [[False, True]] and away[0].tolist() == pytest.approx([0.3, 0.7])


def test_every_seen_pixel_shows_the_same_point_of_the_ball():
    views = balls(row(0.0, 30.0), 64)
    warps = warps_between(views.depth, views.alpha, views.cameras, torch.tensor([[0, 1]]), 64)
    moved = warped(views.image, warps)
    off = (moved - views.image[:1]).abs().amax(1, keepdim=True)
    # what is left is interpolation, at its worst where the paint is foreshortened
    assert off[warps.seen].median() < 0.005 and off[warps.seen].max() < 0.12
    assert (views.image[1:] - views.image[:1]).abs().amax(1)[warps.seen[0]].median() > 0.2
    # what the second camera sees of the ball from 30 degrees aside, and not its rim
    points = pixel_rays(views.cameras[:1], 64).at(views.depth[:1].flatten(2).transpose(1, 2))
    position = views.cameras.cam_to_world[1, :3, 3]
    facing = (points[0] * (position - points[0])).sum(-1) > 0  # a ball's normal is its point
    hit = views.alpha[0].flatten() > 0
    both = (facing & hit).view(64, 64)
    assert not bool((warps.seen[0, 0] & ~both).any())
    assert warps.seen.sum() > 0.75 * both.sum()  # all but a rim


def test_what_stands_behind_an_occluder_is_left_out():
    cameras = row(0.0, 25.0)
    views = balls(cameras, 64, spheres=(BALL, NOSE))
    warps = warps_between(views.depth, views.alpha, cameras, torch.tensor([[0, 1]]), 64)
    # from 25 degrees the small ball hides other parts of the large one than from the front
    points = pixel_rays(cameras[:1], 64).at(views.depth[:1].flatten(2).transpose(1, 2))[0]
    to_eye = torch.nn.functional.normalize(cameras.cam_to_world[1, :3, 3] - points, dim=-1)
    towards = torch.tensor(NOSE[0]) - points
    aside = (towards - (towards * to_eye).sum(-1, keepdim=True) * to_eye).norm(dim=-1)
    is_large = points.norm(dim=-1) < BALL[1] + 1e-3
    hidden = (is_large & (aside < 0.9 * NOSE[1])).view(64, 64)
    assert hidden.sum() > 50
    assert not bool((warps.seen[0, 0] & hidden).any())
    moved = warped(views.image, warps)
    assert (moved - views.image[:1]).abs().amax(1)[warps.seen[0]].max() < 0.12
    # without the test of depths, it would have been painted with the occluder
    blind = warps_between(
        views.depth, views.alpha, cameras, torch.tensor([[0, 1]]), 64, tolerance=1.0
    )
    assert (warped(views.image, blind) - views.image[:1]).abs().amax(1)[blind.seen[0]].max() > 0.5


def test_depth_may_be_coarser_than_the_pictures():
    views = balls(row(-3.0, 3.0), 64, depth_size=32)
    pair = torch.tensor([[0, 1]])
    warps = warps_between(views.depth, views.alpha, views.cameras, pair, 64)
    off = (warped(views.image, warps) - views.image[:1]).abs().amax(1)
    assert warps.seen.float().mean() > 0.2 and off[warps.seen[0]].max() < 0.06


def test_the_paint_is_what_the_balls_show():
    views = balls(row(0.0), 33)
    middle = torch.tensor([[0.0, 0.0, BALL[1]]])
    assert torch.allclose(views.image[0, :, 16, 16], painted(middle)[0], atol=1e-3)
    assert views.depth[0, 0, 16, 16] == pytest.approx(2.7 - 0.25, abs=1e-4)


def test_erosion_takes_the_edge_of_the_mask_and_not_of_the_picture():
    mask = torch.ones(1, 1, 5, 5, dtype=torch.bool)
    assert bool(eroded(mask).all())
    mask[0, 0, 2, 2] = False
    assert eroded(mask).sum() == 25 - 9 and eroded(mask, 2).sum() == 0


def test_angles_between_views():
    angles = view_angles(orbit_cameras([0.0, 40.0, 40.0], [0.0, 0.0, 25.0], RIG))
    assert angles[0, 1] == pytest.approx(40, abs=1e-3)
    assert angles[1, 2] == pytest.approx(25, abs=1e-3)
    across = math.degrees(math.acos(math.cos(math.radians(40)) * math.cos(math.radians(25))))
    assert angles[0, 2] == pytest.approx(across, abs=1e-3)
    assert angles.diagonal().tolist() == [0, 0, 0]


def test_pairs_of_an_angle_come_both_ways_round():
    cameras = row(0.0, 6.0, 30.0, 37.0)
    assert pairs_at(cameras, 6.0).tolist() == [[0, 1], [2, 3], [1, 0], [3, 2]]
    assert pairs_at(cameras, 30.0).tolist() == [[0, 2], [1, 3], [2, 0], [3, 1]]
    # no pair is 50 apart: the nearest there is stands for it, 37 degrees
    assert pairs_at(cameras, 50.0).tolist() == [[0, 3], [3, 0]]
    assert pairs_at(cameras, 30.0, most=2).tolist() == [[0, 2], [2, 0]]


def test_a_grid_without_the_angle_gives_its_neighbours():
    cameras = grid_cameras(7, RIG)  # ten degrees from view to view, less at the top and bottom
    pairs = pairs_at(cameras, 6.0)
    angles = view_angles(cameras)[pairs[:, 0], pairs[:, 1]]
    assert angles.min() == pytest.approx(8.66, abs=0.01) and angles.max() < 10.01
    assert len(pairs) == 2 * (42 + 42 + 4)  # rows, columns, and the front with four of them


def test_a_view_twice_is_no_pair():
    cameras = grid_cameras(3, RIG)  # thirty degrees from view to view; the front is there twice
    angles = view_angles(cameras)
    assert angles[0, 1:].min() < 0.1
    pairs = pairs_at(cameras, 6.0)
    assert angles[pairs[:, 0], pairs[:, 1]].min() > 20


@pytest.mark.parametrize("yaws", [(0.0,), (5.0, 5.0)])
def test_pairs_need_two_views(yaws):
    with pytest.raises(InputError, match="at least 2 views"):
        pairs_at(row(*yaws), 6.0)


def test_depth_of_other_views_is_refused():
    views = balls(row(0.0, 6.0), 16)
    with pytest.raises(ShapeError, match="of 1 cameras"):
        warps_between(views.depth, views.alpha, views.cameras[:1], torch.tensor([[0, 0]]), 16)
