"""Pseudo-views: visibility by a slow loop, splats by hand, a plane whose views are known."""

import math
from dataclasses import replace

import pytest
import torch

from freestyle_core.baselines import pseudo_views
from freestyle_core.baselines.pseudo_views import (
    Points,
    PseudoViewSettings,
    blend_weights,
    is_nearest,
    projected,
    pseudo_view,
    splatted,
    surface_points,
    unprojected,
    visible_points,
)
from freestyle_core.errors import InputError, ShapeError
from freestyle_core.geometry.cameras import front_camera, orbit_cameras
from freestyle_core.geometry.rays import pixel_rays
from freestyle_core.types import CameraRig

RIG = CameraRig(radius=2.7, pivot=(0.0, 0.0, 0.0), focal=4.2647)
FRONT = front_camera(RIG)
NEAR = 0.2  # scene units: a plane in front of the pivot, so that it moves when the camera turns
RIGHT = PseudoViewSettings(z_is_distance=False)


def random(seed=0):
    return torch.Generator().manual_seed(seed)


def plane_depth(camera, size, height=0.0):
    """Return distances [1,1,h,h] along the rays to the plane z = height."""
    rays = pixel_rays(camera, size)
    return ((height - rays.origins[..., 2]) / rays.directions[..., 2]).reshape(1, 1, size, size)


def texture(x, y):
    return torch.stack([0.5 + 0.4 * torch.sin(12 * x), 0.5 + 0.4 * torch.cos(9 * y), 0.5 + x], -1)


def plane_picture(camera, size):
    """Return the plane z = NEAR with its texture, [3,S,S]."""
    rays = pixel_rays(camera, size)
    places = rays.at(plane_depth(camera, size, NEAR).reshape(1, -1, 1))[0]
    return texture(places[:, 0], places[:, 1]).t().reshape(3, size, size)


def test_distances_along_the_rays_give_a_flat_plane_and_taken_for_z_they_bow():
    depth = plane_depth(FRONT, 8)[0, 0]
    flat = unprojected(depth, FRONT, z_is_distance=False)
    torch.testing.assert_close(flat[..., 2], torch.zeros(8, 8), atol=1e-6, rtol=0)
    bowed = unprojected(depth, FRONT, z_is_distance=True)
    # the corner ray is sqrt(1 + 2 (7/16/f)^2) times as long as its z
    longer = math.sqrt(1 + 2 * (7 / 16 / 4.2647) ** 2)
    assert float(bowed[0, 0, 2]) == pytest.approx(2.7 - 2.7 * longer, abs=1e-5)
    uv, z = projected(flat.reshape(-1, 3), FRONT)
    centres = (torch.arange(8) + 0.5) / 8
    torch.testing.assert_close(uv[:8, 0], centres)
    torch.testing.assert_close(uv[::8, 1], centres)
    torch.testing.assert_close(z, torch.full((64,), 2.7))


def test_visibility_is_that_of_a_slow_loop():
    places = (torch.rand(600, 3, generator=random()) - 0.5) * torch.tensor([0.9, 0.9, 0.4])
    camera, size, tolerance = orbit_cameras([20.0], [10.0], RIG), 8, 0.05
    uv, z = projected(places, camera)
    nearest = {}
    for (u, v), depth in zip((uv * size).floor().tolist(), z.tolist(), strict=True):
        nearest[u, v] = min(depth, nearest.get((u, v), math.inf))
    expected = [
        0 <= u < size and 0 <= v < size and depth <= nearest[u, v] + tolerance
        for (u, v), depth in zip((uv * size).floor().tolist(), z.tolist(), strict=True)
    ]
    got = is_nearest(places, camera, size, tolerance=tolerance)
    assert got.tolist() == expected
    assert 0 < sum(expected) < 600
    assert any(not 0 <= u < 1 for u in uv[:, 0].tolist())  # some lie outside the picture


def test_points_behind_the_camera_are_not_seen():
    assert not is_nearest(torch.tensor([[0.0, 0.0, 5.0]]), FRONT, 4, tolerance=1.0)[0]


def test_points_lie_evenly_on_the_surface_and_only_where_it_is_opaque():
    alpha = torch.ones(1, 1, 16, 16)
    alpha[..., 8:] = 0.0  # the right half meets nothing
    settings = replace(RIGHT, points=8.0)
    places = surface_points(plane_depth(FRONT, 16), alpha, FRONT, settings, 16, random())
    assert places.shape == (8 * 32 * 32, 3)
    # at the border the depth map is continued evenly, in between it is interpolated
    assert float(places[:, 2].abs().max()) < 2e-3
    assert float(places[:, 0].max()) < 0.02
    upper = (places[:, 1] > 0).float().mean()
    left = (places[:, 0] < places[:, 0].min() / 2).float().mean()
    assert float(upper) == pytest.approx(0.5, abs=0.02)
    assert float(left) == pytest.approx(0.5, abs=0.04)
    with pytest.raises(ShapeError, match="nowhere opaque"):
        surface_points(plane_depth(FRONT, 16), 0 * alpha, FRONT, settings, 16, random())


def test_slanted_and_torn_surface_is_seen_less():
    # a step in depth: between its two sides the mesh is a sheet along the rays
    depth, alpha = plane_depth(FRONT, 64), torch.ones(1, 1, 64, 64)
    depth[..., 30:] += 0.3
    picture = torch.rand(1, 3, 16, 16, generator=random())
    settings = replace(RIGHT, points=8.0, upsampling=4)
    made = surface_points(depth, alpha, FRONT, settings, 16, random())
    points = visible_points(picture, depth, alpha, FRONT, settings, random())
    sheets = [((p[:, 2] > -0.2) & (p[:, 2] < -0.1)).sum() for p in (made, points.places)]
    assert int(sheets[0]) > 1000 and int(sheets[1]) == 0
    assert len(points.places) > 0.5 * len(made)


def at_pixel(column, row, z, size=9):
    """Return a point that the front camera sees at a pixel's centre, `z` before it."""
    uv = torch.tensor([(column + 0.5) / size - 0.5, (row + 0.5) / size - 0.5]) / RIG.focal * z
    return torch.tensor([uv[0], -uv[1], RIG.radius - z])


def test_a_splat_is_a_disc_of_its_colour():
    points = Points(at_pixel(4, 3, 2.0)[None], torch.tensor([[0.2, 0.4, 0.6]]))
    picture, covered = splatted(points, FRONT, 9, 2.0, 16)
    rows, columns = covered.nonzero(as_tuple=True)
    near = {(r, c) for r in range(9) for c in range(9) if (r - 3) ** 2 + (c - 4) ** 2 < 4}
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == near
    inside = picture[:, covered].t()
    torch.testing.assert_close(inside, torch.tensor([[0.2, 0.4, 0.6]]).expand(len(near), 3))
    assert not picture[:, ~covered].any()


@pytest.mark.parametrize("chunk", [25, 2_000_000])
def test_nearer_splats_come_first_and_more_than_allowed_are_left_out(chunk, monkeypatch):
    monkeypatch.setattr(pseudo_views, "OFFSET_CHUNK", chunk)
    places = torch.stack([at_pixel(4, 4, z) for z in (2.2, 2.0, 2.1)])
    points = Points(places, torch.eye(3))
    a = 1 - math.sqrt(1e-3)
    one, _ = splatted(points, FRONT, 9, 2.0, 1)
    torch.testing.assert_close(one[:, 4, 4], torch.tensor([0.0, 1.0, 0.0]))
    two, _ = splatted(points, FRONT, 9, 2.0, 2)
    whole = a + (1 - a) * a
    expected = torch.tensor([0.0, a, (1 - a) * a]) / whole
    torch.testing.assert_close(two[:, 4, 4], expected)
    aside = 1 - math.sqrt(0.1 / 4)  # one pixel away, radius 2
    rest = torch.tensor([0.0, aside, (1 - aside) * aside]) / (aside + (1 - aside) * aside)
    torch.testing.assert_close(two[:, 4, 5], rest)


def test_sizes_are_scaled_to_the_picture():
    settings = PseudoViewSettings()
    names = ("mask_erosion", "outline_erosion", "blur")
    assert [settings.kernel(name, 512) for name in names] == [3, 51, 21]
    assert [settings.kernel(name, 128) for name in names] == [3, 13, 5]
    assert [settings.splat_radius(size) for size in (512, 1024, 128)] == [2.0, 4.0, 1.0]


def test_splats_are_shown_well_inside_what_they_cover():
    covered = torch.zeros(128, 128, dtype=torch.bool)
    covered[30:100, 30:100] = True
    covered[60, 60] = False  # a hole belongs to the outline, not to the mask
    weight = blend_weights(covered, PseudoViewSettings())
    # eroded by 6 on each side, blurred by 2 more
    assert not weight[:34].any() and not weight[:, 96:].any()
    assert weight[38:90, 38:55].min() == pytest.approx(1, abs=1e-5)
    assert float(weight[50, 36]) == pytest.approx(float(weight[50, 93]), abs=1e-5)
    assert 0 < float(weight[60, 60]) < 0.7  # 3 x 3 around the hole are taken away, then blurred
    assert weight[66, 66] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("yaw", "pitch"), [(15.0, 0.0), (-10.0, 12.0)])
def test_a_plane_is_warped_to_its_true_view(yaw, pitch):
    size = 64
    picture, camera = plane_picture(FRONT, size), orbit_cameras([yaw], [pitch], RIG)
    depth = plane_depth(FRONT, size // 2, NEAR)
    settings = replace(RIGHT, points=2.0)
    points = visible_points(picture[None], depth, torch.ones_like(depth), FRONT, settings, random())
    blank = torch.full((3, size, size), 0.5)
    made, truth = pseudo_view(points, camera, blank, settings), plane_picture(camera, size)
    _, covered = splatted(points, camera, size, 1.0, 16)
    sure = blend_weights(covered, settings) > 0.999
    assert sure.float().mean() > 0.4
    assert float((made - truth)[:, sure].abs().max()) < 0.06  # a pixel's worth of texture
    assert float((plane_picture(FRONT, size) - truth)[:, sure].abs().max()) > 0.15
    assert torch.equal(made[:, 0, 0], blank[:, 0, 0])  # at the border the head is shown


@pytest.mark.parametrize(
    "wrong", [{"blur": 4}, {"upsampling": 0}, {"points": 0.0}, {"radius": -1.0}, {"per_pixel": 1.5}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        PseudoViewSettings(**wrong)
