"""The views behind the orbit viewer: their cameras, their edges, and the file that holds them."""

import math

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from freestyle_core.errors import Cancelled, InputError, ShapeError
from freestyle_core.files.media.atlas import MAX_PIXELS, save_atlas, tile_size, tiled
from freestyle_core.geometry.cameras import front_camera
from freestyle_core.models.config import EG3DConfig
from freestyle_core.models.eg3d import EG3DRenderer
from freestyle_core.types import CameraRig, OrbitViews, Portrait, Triplane
from freestyle_core.visualize.orbit_views import OrbitGrid, describe, matte, render_orbit, spread
from tests.tiny import tiny_eg3d, tiny_portrait

RIG = CameraRig(radius=2.7, pivot=(0.0, 0.0, 0.2), focal=4.2647)
GRID = OrbitGrid(3, 3, yaw_range_deg=30.0, pitch_range_deg=20.0)


def test_the_middle_view_is_the_front_camera():
    middle = GRID.cameras(RIG)[4]
    assert_close(middle.cam_to_world, front_camera(RIG).cam_to_world)
    single = OrbitGrid(1, 1).cameras(RIG)
    assert_close(single.cam_to_world, front_camera(RIG).cam_to_world)


def test_description_rebuilds_every_camera_as_the_viewer_does():
    facts = describe(GRID, RIG)
    cameras = GRID.cameras(RIG)
    for row, pitch in enumerate((20, 0, -20)):  # the top row looks down on the head
        for column, yaw in enumerate((-30, 0, 30)):
            a, b = math.radians(yaw), math.radians(pitch)
            out = torch.tensor([math.sin(a) * math.cos(b), math.sin(b), math.cos(a) * math.cos(b)])
            matrix = cameras.cam_to_world[row * 3 + column]
            assert_close(matrix[:3, 3], torch.tensor(RIG.pivot) + facts["distance"] * out)
            assert_close(matrix[:3, 2], -out)
            assert_close(matrix[:3, 0], torch.tensor([math.cos(a), 0.0, -math.sin(a)]))
    assert facts["distance"] == pytest.approx(2.5)  # 2.7 - 0.2
    assert (facts["focal"], facts["yaw_deg"], facts["pitch_deg"]) == (4.2647, 30.0, 20.0)


@pytest.mark.parametrize("bad", [{"columns": 0}, {"rows": -1}, {"yaw_range_deg": -1.0}])
def test_a_grid_without_views_is_refused(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        OrbitGrid(**bad)


def test_unknown_pixels_continue_what_is_beside_them():
    values = torch.full((1, 1, 4, 4), 3.0)
    known = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    values[..., :2], known[..., :2] = 2.5, True
    values[..., 0, 0] = 2.25
    filled = spread(values, known)
    assert torch.equal(filled[..., :2], values[..., :2])
    # coarse pixels: left (2.25 + 3 * 2.5) / 4 = 2.4375 and 2.5; right the mean of all, 2.46875
    assert filled[0, 0, 0, 3] == pytest.approx(2.46875) == filled[0, 0, 3, 3]
    nothing = spread(torch.full((2, 3, 4, 4), 3.0), torch.zeros(2, 1, 4, 4, dtype=torch.bool))
    assert_close(nothing, torch.full((2, 3, 4, 4), 3.0))


def test_matte_takes_its_edge_from_the_picture():
    image = torch.ones(1, 3, 32, 32)
    image[..., :16] = 0.2  # a dark head on the left, white on the right
    alpha = torch.zeros(1, 1, 8, 8)
    alpha[..., :4] = 1.0
    blurred = torch.nn.functional.interpolate(alpha, size=(32, 32), mode="bilinear")
    made = matte(image, alpha)
    assert blurred[0, 0, 16, 16] > 0.37 and blurred[0, 0, 16, 15] < 0.63  # 3/8 and 5/8
    assert_close(made[0, 0, 16, 13:19], torch.tensor([1, 1, 2 / 3, 1 / 3, 0, 0]), atol=0.02, rtol=0)
    assert_close(matte(image, torch.ones(1, 1, 8, 8)), torch.ones(1, 1, 32, 32))


def test_matte_fades_over_its_window_where_the_picture_says_nothing():
    alpha = torch.zeros(1, 1, 32, 32)
    alpha[..., :16] = 1.0
    made = matte(torch.full((1, 3, 32, 32), 0.5), alpha)
    # means over 7 pixels, twice, at columns 13 to 18: 39, 34, 28, 21, 15, 10 of 49; stretched from
    # [0.2, 0.8] to [0, 1]: 0.9932, 0.8231, 0.6190, 0.3810, 0.1769, 0.0068; and over 3 pixels
    expected = torch.tensor([0.8118, 0.6077, 0.3923, 0.1882])
    assert_close(made[0, 0, 16, 14:18], expected, atol=2e-4, rtol=0)


def test_rendering_gives_what_the_viewer_needs_and_can_be_cancelled():
    portrait = tiny_portrait(tiny_eg3d())
    views = render_orbit(portrait, GRID)
    assert views.image.shape == (9, 3, 16, 16) and views.alpha.shape == (9, 1, 16, 16)
    assert views.depth.shape == (9, 1, 8, 8)
    own_background = tiny_portrait(tiny_eg3d(white_background=False))
    assert render_orbit(own_background, OrbitGrid(1, 1)).alpha is None

    def stop(done, total, preview=None):
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        render_orbit(portrait, GRID, progress=stop)


class Dark(torch.nn.Module):
    """A ball of radius 0.2 of one dark colour; the planes sum to the squared distance over 3."""

    def forward(self, features):
        return self.density(features), torch.full_like(features[:, :1], 0.2).expand(-1, 3, -1)

    def density(self, features):
        return 2e5 * (0.2**2 - 3 * features[:, :1])


class Enlarge(torch.nn.Module):
    def forward(self, features, w, dtype=None):
        return torch.nn.functional.interpolate(features[:, :3], scale_factor=2.0, mode="bilinear")


def test_a_dark_head_lies_on_white_without_white_in_its_colour():
    """The viewer takes the white away by opacity; what is left is the head's colour alone."""
    at = (torch.arange(32) + 0.5) / 32 - 0.5
    high, wide = torch.meshgrid(at, at, indexing="ij")
    planes = torch.zeros(1, 3, 1, 32, 32)
    planes[0, 0, 0], planes[0, 1, 0] = wide**2 + high**2, high**2
    config = EG3DConfig(
        box_size=1.0,
        plane_channels=1,
        feature_channels=3,
        ray_start=2.2,
        ray_end=3.2,
        neural_resolution=32,
        depth_samples=24,
        importance_samples=24,
        white_background=True,
        camera_pivot=(0.0, 0.0, 0.0),
    )
    renderer = EG3DRenderer(config, Dark(), Enlarge())
    portrait = Portrait(renderer, Triplane(planes, 1.0), torch.zeros(1, 1, 1))
    views = render_orbit(portrait, OrbitGrid(1, 1))
    # white where there is no head, 0.2 where it is all there, between them by its opacity
    assert_close(views.image, (1 - 0.8 * views.alpha).expand(-1, 3, -1, -1), atol=5e-3, rtol=0)
    assert_close(views.image[0, :, 32, 32], torch.full((3,), 0.2), atol=5e-3, rtol=0)
    assert_close(views.image[0, :, 0, 0], torch.ones(3))
    assert ((views.alpha > 0.2) & (views.alpha < 0.8)).any()  # an edge was looked at
    # the depth of the ball goes on behind its edge: the near side is 2.7 - 0.2 away
    assert views.depth[0, 0, 16, 16].item() == pytest.approx(2.5, abs=0.02)
    assert 2.5 < views.depth[0, 0, 0, 0] < 2.7


def views_of(levels, *, size=32, alpha=True):
    grey = torch.tensor(levels)[:, None, None, None]
    image = grey.expand(-1, 3, size, size)
    depth = 2 + grey.expand(-1, 1, size // 2, size // 2)
    return OrbitViews(image, image[:, :1] if alpha else None, depth)


def test_the_file_holds_every_block_where_the_description_says(tmp_path):
    first = views_of([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    second = views_of([1.0, 0.8, 0.6, 0.4, 0.2, 0.0], alpha=False)
    told = save_atlas(tmp_path / "a.jpg", [first, second], 3)
    picture = Image.open(tmp_path / "a.jpg").convert("L")
    # two rows of tiles each: pictures 64, opacity 64, depth 32, then pictures 64, depth 32
    assert picture.size == (96, 256)
    assert told == {
        "tile": 32,
        "portraits": [
            {"image": 0, "alpha": 64, "depth": 128, "near": 2.0, "far": 3.0},
            {"image": 160, "depth": 224, "near": 2.0, "far": 3.0},
        ],
    }

    def grey(top, size, index):
        row, column = divmod(index, 3)
        return picture.getpixel((column * size + size // 2, top + row * size + size // 2)) / 255

    for index, level in enumerate([0.0, 0.2, 0.4, 0.6, 0.8, 1.0]):
        for top, size in ((0, 32), (64, 32), (128, 16)):
            assert grey(top, size, index) == pytest.approx(level, abs=0.01)
        for top, size in ((160, 32), (224, 16)):
            assert grey(top, size, index) == pytest.approx(1 - level, abs=0.01)


def test_tiles_end_where_jpeg_blocks_end(tmp_path):
    views = views_of([0.0, 1.0], size=40)
    assert save_atlas(tmp_path / "a.jpg", [views], 2)["tile"] == 32  # a multiple of 16
    picture = Image.open(tmp_path / "a.jpg").convert("L")
    assert picture.getpixel((31, 0)) < 3 and picture.getpixel((32, 0)) > 252


def test_many_large_views_are_made_smaller():
    def sized(count, size):
        image = torch.zeros(1, 3, 1, 1).expand(count, 3, size, size)
        return [OrbitViews(image, None, image[:, :1])]

    assert OrbitGrid() == OrbitGrid(13, 5, 30.0, 20.0)
    assert tile_size(sized(len(OrbitGrid()), 512), 13) == 512
    assert tile_size(sized(255, 512), 17) == 352  # sqrt(2^25 / 255) = 362.7
    assert 255 * 352**2 <= MAX_PIXELS
    with pytest.raises(ShapeError, match="full rows"):
        tile_size(sized(10, 64), 3)


def test_views_are_laid_out_row_by_row():
    views = torch.arange(4.0)[:, None, None, None].expand(4, 1, 1, 1)
    assert torch.equal(tiled(views, 2)[0], torch.tensor([[0.0, 1.0], [2.0, 3.0]]))
