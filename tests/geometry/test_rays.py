"""Rays, box limits and sample depths against the reference, and by hand."""

import math

import torch
from torch.testing import assert_close

from freestyle_core.geometry.rays import (
    Rays,
    auto_limits,
    box_limits,
    pixel_rays,
    stratified_depths,
)
from freestyle_core.types import CameraBatch


def test_rays_match_reference(tiny):
    rays = pixel_rays(tiny.cameras, 16)
    assert_close(rays.origins, tiny.io["ray_origins_res16"], atol=1e-6, rtol=0)
    assert_close(rays.directions, tiny.io["ray_directions_res16"], atol=1e-6, rtol=0)


def test_rays_with_skew_and_shifted_centre_match_reference(ops):
    cameras = CameraBatch(ops["raysampler.cam2world"], ops["raysampler.intrinsics"])
    rays = pixel_rays(cameras, 5)
    assert_close(rays.origins, ops["raysampler.origins_res5"], atol=1e-6, rtol=0)
    assert_close(rays.directions, ops["raysampler.directions_res5"], atol=1e-6, rtol=0)


def test_middle_ray_looks_forward_and_the_first_pixel_is_top_left():
    intrinsics = torch.tensor([[[1.0, 0, 0.5], [0, 1.0, 0.5], [0, 0, 1]]])
    rays = pixel_rays(CameraBatch(torch.eye(4)[None], intrinsics), 3)
    assert_close(rays.directions[0, 4], torch.tensor([0.0, 0.0, 1.0]))
    # pixel (0, 0) of 3 has its centre at 1/6: direction (-1/3, -1/3, 1)
    first = torch.tensor([-1 / 3, -1 / 3, 1.0])
    assert_close(rays.directions[0, 0], first / math.sqrt(11 / 9))


def test_box_limits_match_reference_where_rays_hit(ops):
    rays = Rays(ops["box.rays_o"], ops["box.rays_d"])
    for size in (0.5, 1.6):
        entry, leave, hit = box_limits(rays, size)
        near, far = (ops[f"box.{k}_{size}"][..., 0] for k in ("tmin", "tmax"))
        assert torch.equal(hit, near <= far)  # the reference marks a miss by -1 and -2
        assert_close(entry[hit], near[hit], atol=1e-6, rtol=0)
        assert_close(leave[hit], far[hit], atol=1e-6, rtol=0)


def test_auto_limits_match_reference_quirk_included(ops):
    # the reference works over the whole call: one "view" of all rays
    rays = Rays(ops["box.rays_o"].view(1, -1, 3), ops["box.rays_d"].view(1, -1, 3))
    start, end = auto_limits(rays, 0.5)
    assert_close(start.flatten(), ops["box.auto_start_0.5"].flatten(), atol=1e-6, rtol=0)
    assert_close(end.flatten(), ops["box.auto_end_0.5"].flatten(), atol=1e-6, rtol=0)


def test_auto_limits_of_a_view_that_misses_everything_are_usable():
    rays = Rays(torch.tensor([[[0.0, 0.0, 3.0]]]), torch.tensor([[[0.0, 0.0, 1.0]]]))
    rays_away = Rays(rays.origins + 5, torch.tensor([[[1.0, 0.0, 0.0]]]))
    start, end = auto_limits(rays_away, 1.0)
    assert 0 <= start.item() < end.item() < 100


def test_stratified_depths_match_reference(ops):
    u = ops["strat.u"][..., 0]
    shape = u.shape[:2]
    start, end = torch.full(shape, 2.25), torch.full(shape, 3.3)
    assert_close(stratified_depths(start, end, u), ops["strat.fixed"][..., 0])
    got = stratified_depths(start, end, u, disparity=True)
    assert_close(got, ops["strat.disparity"][..., 0])
    start, end = (ops[f"box.auto_{k}_0.5"][..., 0] for k in ("start", "end"))
    assert_close(stratified_depths(start, end, u), ops["strat.auto"][..., 0])


def test_points_lie_at_their_depths():
    rays = Rays(torch.tensor([[[1.0, 0, 0]]]), torch.tensor([[[0.0, 0.6, 0.8]]]))
    points = rays.at(torch.tensor([[[1.0, 10.0]]]))
    assert_close(points, torch.tensor([[[1.0, 0.6, 0.8], [1.0, 6.0, 8.0]]]))
