"""Depth and normal pictures of a sphere, whose depth and normals are known."""

import math
from dataclasses import replace

import torch
from torch import nn
from torch.testing import assert_close

from freestyle_core.geometry.cameras import orbit_cameras
from freestyle_core.method.render import RenderSettings, render_views
from freestyle_core.models.config import EG3DConfig
from freestyle_core.models.eg3d import EG3DRenderer
from freestyle_core.types import Portrait, Rendering, Triplane
from freestyle_core.visualize.depth_normals import depth_pictures, normal_pictures

RADIUS = 0.2
SIZE = 32  # pixels


class Ball(nn.Module):
    """Reads the sum of the planes as the squared distance to the origin, over 3."""

    def forward(self, features):
        return self.density(features), features[:, :1].expand(-1, 3, -1)

    def density(self, features):
        return 2e5 * (RADIUS**2 - 3 * features[:, :1])


def make_ball(resolution=64):
    centres = -0.5 + (torch.arange(resolution) + 0.5) / resolution
    high, wide = torch.meshgrid(centres, centres, indexing="ij")
    planes = torch.zeros(1, 3, 1, resolution, resolution)
    planes[0, 0, 0] = wide**2 + high**2  # x, y
    planes[0, 1, 0] = planes[0, 2, 0] = 0
    planes[0, 1, 0] = high**2  # x, z: z alone
    config = EG3DConfig(
        box_size=1.0,
        plane_channels=1,
        feature_channels=3,
        ray_start=2.2,
        ray_end=3.2,
        neural_resolution=SIZE,
        depth_samples=48,
        importance_samples=48,
        white_background=True,
        camera_pivot=(0.0, 0.0, 0.0),
    )

    class Enlarge(nn.Module):
        def forward(self, features, w, dtype=None):
            return nn.functional.interpolate(features[:, :3], scale_factor=2.0)

    renderer = EG3DRenderer(config, Ball(), Enlarge())
    return Portrait(renderer, Triplane(planes, 1.0), torch.zeros(1, 1, 1))


def rendered(yaw_deg, pitch_deg):
    portrait = make_ball()
    cameras = orbit_cameras(yaw_deg, pitch_deg, portrait.renderer.config.rig())
    return portrait, render_views(portrait, cameras, settings=RenderSettings(memory_mb=64))


def test_normals_of_a_ball_are_the_same_from_every_side():
    portrait, rendering = rendered([0.0, 70.0, 0.0], [0.0, 0.0, 50.0])
    pictures = normal_pictures(portrait, rendering)
    assert pictures.shape == rendering.image.shape == (3, 3, 2 * SIZE, 2 * SIZE)
    # the middle looks at the camera: (0, 0, 1) is coloured (0.5, 0.5, 1)
    middle = pictures[:, :, SIZE - 1 : SIZE + 1, SIZE - 1 : SIZE + 1].mean(dim=(2, 3))
    assert_close(middle, torch.tensor([[0.5, 0.5, 1.0]]).expand(3, 3), atol=0.01, rtol=0)
    # a picture shows 2.7 / 4.2647 = 0.6331 units at the centre. Seen from 2.7, 0.1 right of the
    # axis at the ball's near side (z = 0.173) is at 0.1 * 2.7 / 2.527 = 0.1069 units in the picture
    pixel = 2 * SIZE * (0.5 + 0.1069 / 0.6331)
    column = round(pixel - 0.5)
    right = pictures[:, :, SIZE, column]
    # the normal there is (0.1, 0, 0.173) / 0.2 = (0.5, 0, 0.866)
    expected = torch.tensor([[0.75, 0.5, 0.933]]).expand(3, 3)
    assert_close(right, expected, atol=0.04, rtol=0)
    # and the same upwards: green is up
    up = pictures[:, :, 2 * SIZE - 1 - column, SIZE]
    assert_close(up, expected[:, [1, 0, 2]], atol=0.04, rtol=0)
    # an empty corner looks at the camera
    assert_close(pictures[0, :, 0, 0], torch.tensor([0.5, 0.5, 1.0]), atol=1e-4, rtol=0)


def test_a_head_of_twice_the_size_from_twice_as_far_has_the_same_normals():
    portrait, rendering = rendered([20.0], [10.0])
    rough = torch.rand(1, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    small = replace(portrait, triplane=Triplane(rough, 1.0))
    config = replace(portrait.renderer.config, box_size=2.0)
    renderer = EG3DRenderer(config, Ball(), portrait.renderer.superresolution)
    large = Portrait(renderer, Triplane(rough, 2.0), portrait.w)
    pose = rendering.cameras.cam_to_world.clone()
    pose[:, :3, 3] *= 2
    far = replace(rendering.cameras, cam_to_world=pose)
    twice = replace(rendering, depth=2 * rendering.depth, cameras=far)
    got = normal_pictures(large, twice)
    assert_close(got, normal_pictures(small, rendering), atol=1e-4, rtol=0)
    assert got.std() > 0.2  # as rough as the planes


def test_every_view_may_have_planes_of_its_own():
    portrait, rendering = rendered([0.0, 0.0], [0.0, 0.0])
    flat = torch.zeros_like(portrait.triplane.planes)
    ramp = torch.linspace(0, 0.1, flat.shape[-1])
    flat[0, 0, 0] = -ramp  # denser to the right: its surface looks to the left
    both = Triplane(torch.cat([portrait.triplane.planes, flat]), 1.0)
    got = normal_pictures(replace(portrait, triplane=both), rendering)
    assert_close(got[0], normal_pictures(portrait, rendering)[0])
    alone = normal_pictures(replace(portrait, triplane=Triplane(flat, 1.0)), rendering)
    assert_close(got[1], alone[1])
    assert got[1, 0, SIZE, SIZE] < 0.05 and abs(got[0, 0, SIZE, SIZE] - 0.5) < 0.05


def test_depth_is_white_where_it_is_near_and_black_where_it_is_empty():
    _, rendering = rendered([0.0], [0.0])
    picture = depth_pictures(rendering)
    assert picture.shape == rendering.image.shape
    assert_close(picture[:, 0], picture[:, 2])
    assert float(picture[0, 0, SIZE, SIZE]) > 0.97
    assert float(picture[0, 0, 0, 0]) == 0.0
    # along a row the ball falls away
    row = picture[0, 0, SIZE, SIZE : SIZE + 14]
    assert (row.diff() <= 1e-4).all() and float(row[-1]) < float(row[0]) - 0.05


def test_all_views_share_one_depth_scale():
    shape = (2, 1, 4, 4)
    depth = torch.full(shape, 2.0)
    depth[1] = 3.0
    depth[1, 0, 0, 0] = 9.0  # empty: it must not stretch the scale
    alpha = torch.ones(shape)
    alpha[1, 0, 0, 0] = 0.0
    cameras = orbit_cameras([0.0, 0.0], [0.0, 0.0], EG3DConfig().rig())
    rendering = Rendering(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4), depth, alpha, cameras)
    got = depth_pictures(rendering)
    # nearest 1, farthest 0.1, empty 0
    assert_close(got[0, 0], torch.ones(4, 4))
    assert math.isclose(float(got[1, 0, 3, 3]), 0.1, abs_tol=1e-6)
    assert float(got[1, 0, 0, 0]) == 0.0
