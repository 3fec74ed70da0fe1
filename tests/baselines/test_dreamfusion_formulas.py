"""DreamFusion's formulas and schedules, with numbers worked out by hand."""

import math

import pytest
import torch

from freestyle_core.baselines.dreamfusion.cameras import (
    PUBLISHED_VIEWS,
    ViewRanges,
    draw_view,
    generator_views,
    placed,
)
from freestyle_core.baselines.dreamfusion.field import Field, frequencies
from freestyle_core.baselines.dreamfusion.guidance import view_weights
from freestyle_core.baselines.dreamfusion.settings import FAITHFUL, LITE, DreamFusionSettings
from freestyle_core.baselines.dreamfusion.shading import (
    density_blob,
    entropy,
    entropy_ramp,
    light_directions,
    normals,
    orientation,
    shade,
    unit,
)
from freestyle_core.errors import InputError
from freestyle_core.geometry.cameras import orbit_cameras
from freestyle_core.geometry.rays import pixel_rays
from freestyle_core.models.text_to_image import Suits
from freestyle_core.types import CameraRig

RIG = CameraRig(radius=2.7, pivot=(0.0, 0.0, 0.0), focal=4.2647)
EG3D_RIG = CameraRig(radius=2.7, pivot=(0.0, 0.0, 0.2), focal=4.2647)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_the_blob_is_a_ball_of_logarithmic_density():
    at = tensor([0, 0, 0], [0.2, 0, 0], [0, 0.2, 0.2], [0, 0, 1])
    # 5 exp(-1/2), 5 exp(-1), 5 exp(-12.5)
    expected = [5.0, 3.0326533, 1.8393972, 1.863e-5]
    assert density_blob(at).tolist() == pytest.approx(expected, rel=1e-3)


def test_an_untrained_field_is_that_ball_but_for_its_network():
    field = Field(4, (4, 8), 8, 2).double()
    for layer in field.net:
        for weight in layer.parameters():
            torch.nn.init.zeros_(weight)
    density, albedo = field.decode(field.folded(), tensor([0, 0, 0], [0.2, 0, 0]))
    assert density.tolist() == pytest.approx([math.exp(5), math.exp(3.0326533)])
    assert albedo.tolist() == [[0.5] * 3] * 2
    field.net[-1].bias.data[0] = 100.0
    assert field.density(field.folded(), tensor([0, 0, 0])).item() == pytest.approx(math.exp(15))


def test_a_feature_is_the_mean_over_levels_and_planes():
    field = Field(1, (2, 4), 4, 2)
    with torch.no_grad():
        field.planes[0].fill_(12.0)
        field.planes[1].zero_()
        field.planes[1][0, 0, 1, 2] = 30.0  # row y 1 of 4, column x 2 of 4
    folded = field.folded()
    assert folded.planes.shape == (1, 3, 1, 4, 4)
    assert folded.box_size == 2 and folded.axes == ("xy", "xz", "yz")
    assert folded.planes[0, 0, 0].tolist() == [[2] * 4, [2, 2, 7, 2], [2] * 4, [2] * 4]
    assert folded.planes[0, 1:].unique().tolist() == [2]


def test_planes_learn_ten_times_as_fast():
    groups = Field(2, (4,), 4, 2).rates(5e-3, 10.0)
    assert [group["lr"] for group in groups] == pytest.approx([5e-2, 5e-3])
    assert [len(group["params"]) for group in groups] == [1, 8]


def test_a_direction_becomes_39_numbers():
    out = frequencies(tensor([0.0, 0.5, 1.0]))
    assert out.shape == (1, 39)
    assert out[0, :3].tolist() == [0, 0.5, 1]
    waves = [math.sin(2.0**k * 0.5) for k in range(6)]
    assert out[0, 9:15].tolist() == pytest.approx(waves, abs=1e-6)
    assert out[0, 21:27].tolist() == pytest.approx([1] * 6, abs=1e-6)  # cosines of 0


def test_normals_point_out_of_a_ball_and_are_finite_where_nothing_is():
    at = tensor([0.3, 0, 0], [0, -0.2, 0.2], [0, 0, 0])
    half = math.sqrt(0.5)
    expected = [[1, 0, 0], [0, -half, half], [0, 0, 0]]
    out = normals(lambda p: density_blob(p).exp(), at)
    assert torch.allclose(out, tensor(*expected), atol=1e-12)
    flat = normals(lambda p: torch.ones(len(p)), at)
    assert flat.tolist() == [[0.0] * 3] * 3
    assert unit(tensor([math.nan, 0, 1])).isfinite().all()


def test_normals_are_central_differences():
    # of x^2 at 0.1 with a step of 0.01: (0.11^2 - 0.09^2) / 0.02 = 0.2, of y: 0.2 as well
    out = normals(lambda p: -p[:, 0].square() - 0.2 * p[:, 1], tensor([0.1, 0.0, 0.0]))
    assert out[0].tolist() == pytest.approx([math.sqrt(0.5), math.sqrt(0.5), 0.0])
    # |x|'s differences are one-sided at 0: central ones give 0 there
    assert normals(lambda p: p[:, 0].abs(), tensor([0.0, 0.0, 0.0])).tolist() == [[0, 0, 0]]


def test_the_light_is_the_camera_moved_by_one_draw():
    origins = tensor([0, 0, 3.0], [0, 0, 3.0])
    out = light_directions(origins, tensor(0.0, 4.0, 0.0)[0:3].reshape(3))
    assert out.tolist() == [pytest.approx([0, 0.8, 0.6])] * 2


def test_shading():
    albedo, light = tensor([0.8, 0.4, 0.2]), tensor([0, 0.6, 0.8])
    normal = tensor([0, 0, 1.0])
    # a + (1 - a) n l = 0.1 + 0.9 * 0.8 = 0.82
    lit = shade("lambertian", albedo, normal, light, 0.1)
    assert lit[0].tolist() == pytest.approx([0.656, 0.328, 0.164])
    assert shade("textureless", albedo, normal, light, 0.1)[0].tolist() == pytest.approx([0.82] * 3)
    # from behind only the ambient light is left
    dark = shade("lambertian", albedo, -normal, light, 0.25)
    assert dark[0].tolist() == pytest.approx([0.2, 0.1, 0.05])
    assert torch.equal(shade("albedo", albedo, None, None, 0.1), albedo)
    assert shade("normal", albedo, tensor([-1, 0, 0.5]), light, 1.0)[0].tolist() == [0, 0.5, 0.75]


def test_entropy_is_counted_in_bits_and_ramped_to_the_middle():
    assert entropy(tensor([0.5, 0.5])).item() == pytest.approx(1.0)
    # 0.25: 0.25 * 2 + 0.75 * 0.41504 = 0.81128
    assert entropy(tensor([0.25, 0.5])).item() == pytest.approx((0.811278 + 1) / 2, rel=1e-5)
    # all or nothing is clamped to 1e-5: 1e-5 * 16.61 + 1e-5 * 1.4427
    assert entropy(tensor([0.0, 1.0])).item() == pytest.approx(1.8052e-4, rel=1e-3)
    assert [entropy_ramp(s, 10) for s in (0, 2, 5, 9)] == [0, 0.4, 1, 1]


def test_orientation_counts_what_faces_away_from_the_camera():
    weights = tensor([0.5, 0.2, 0.3])[0].requires_grad_()
    normal = tensor([0, 0, 1.0], [0, 0, -1.0], [0, 0.6, 0.8]).requires_grad_()
    along = tensor([0, 0, 1.0]).expand(3, 3)
    # 0.5 * 1 + 0.3 * 0.64, over two rays; the second faces the camera
    loss = orientation(weights, normal, along, 2)
    assert loss.item() == pytest.approx((0.5 + 0.192) / 2)
    loss.backward()
    assert weights.grad is None
    # d/dn of w max(0, n d)^2 / 2 rays is w n d d
    assert normal.grad[:, 2].tolist() == pytest.approx([0.5, 0, 0.24])


@pytest.mark.parametrize(
    ("azimuth", "expected"),
    [
        (0, (1, 0, 0)),
        (45, (0.5, 0.5, 0)),
        (-30, (2 / 3, 1 / 3, 0)),
        (90, (0, 1, 0)),
        (-135, (0, 0.5, 0.5)),
        (180, (0, 0, 1)),
        (330, (2 / 3, 1 / 3, 0)),
    ],
)
def test_words_for_the_view_are_mixed_by_the_azimuth(azimuth, expected):
    assert view_weights(azimuth) == pytest.approx(expected)


def test_cameras_are_drawn_from_even_ranges():
    low = draw_view(PUBLISHED_VIEWS, torch.zeros(4))
    assert (low.polar_deg, low.azimuth_deg) == (45, -180)
    # radius 3, 45 degrees from above, behind: (0, 3 cos 45, -3 sin 45)
    place = low.camera.cam_to_world[0, :3, 3]
    assert place.tolist() == pytest.approx([0, 2.12132, -2.12132], abs=1e-5)
    # focal 0.5 / tan(5 degrees)
    assert low.camera.intrinsics[0, 0, 0].item() == pytest.approx(5.715026, rel=1e-5)
    middle = draw_view(PUBLISHED_VIEWS, torch.full((4,), 0.5))
    assert (middle.polar_deg, middle.azimuth_deg) == (75, 0)
    forward = middle.camera.cam_to_world[0, :3, 2]
    assert torch.allclose(forward, -middle.camera.cam_to_world[0, :3, 3] / 3.25, atol=1e-6)
    quarter = draw_view(ViewRanges(azimuth_deg=(90, 90), polar_deg=(90, 90)), torch.zeros(4))
    assert quarter.camera.cam_to_world[0, :3, 3].tolist() == pytest.approx([3, 0, 0], abs=1e-6)


@pytest.mark.parametrize("rig", [RIG, EG3D_RIG])
def test_evaluation_cameras_see_as_much_as_the_middle_training_camera(rig):
    placement = placed(rig)
    camera = placement.into_field(orbit_cameras([0.0], [0.0], rig))
    # 3.25 tan(10 degrees) = 0.573063 field units are half of the picture
    distance = camera.cam_to_world[0, :3, 3].norm()
    assert (distance * 0.5 / camera.intrinsics[0, 0, 0]).item() == pytest.approx(0.573063, rel=1e-5)
    assert camera.cam_to_world[0, :2, 3].tolist() == [0, 0]
    middle = pixel_rays(draw_view(PUBLISHED_VIEWS, torch.full((4,), 0.5)).camera, 3)
    ours = pixel_rays(camera, 3)
    # the ray of the pixel in the middle of a side: both pass the plane through the origin alike
    heights = []
    for rays, row in ((middle, 1), (ours, 1)):
        origin, along = rays.origins[0, row], rays.directions[0, row]
        heights.append((origin - along * (origin @ along)).norm() / (1 - 0 * origin.norm()))
    assert heights[0].item() == pytest.approx(heights[1].item(), rel=0.02)


def test_a_teacher_with_one_lens_is_shown_the_generators_views():
    ranges = DreamFusionSettings().ranges(Suits(views=(42.0, 34.0)), RIG)
    assert ranges == generator_views(RIG, (42.0, 34.0))
    assert ranges.azimuth_deg == (-42, 42) and ranges.polar_deg == pytest.approx((56, 124))
    front = draw_view(ranges, torch.full((4,), 0.5)).camera
    ours = placed(RIG).into_field(orbit_cameras([0.0], [0.0], RIG))
    assert torch.allclose(front.cam_to_world, ours.cam_to_world, atol=1e-5)
    assert torch.allclose(front.intrinsics, ours.intrinsics, atol=1e-4)
    assert DreamFusionSettings().ranges(Suits(), RIG) == PUBLISHED_VIEWS
    own = ViewRanges(azimuth_deg=(0, 1))
    assert DreamFusionSettings(views=own).ranges(Suits(views=(42.0, 34.0)), RIG) == own


def test_the_published_numbers():
    assert (FAITHFUL.iterations, LITE.iterations) == (10_000, 2_000)
    assert (FAITHFUL.learning_rate, FAITHFUL.plane_rate) == (5e-3, 10)
    assert FAITHFUL.betas == (0.98, 0.92, 0.99) and FAITHFUL.weight_decay == 2e-5
    assert (FAITHFUL.max_norm, FAITHFUL.average) == (5, 0.95)
    assert (FAITHFUL.lambda_entropy, FAITHFUL.lambda_orientation) == (1e-3, 1e-2)
    assert FAITHFUL.resolution == 64 and FAITHFUL.scale(Suits()) == 100
    assert DreamFusionSettings(guidance=7.0).scale(Suits()) == 7


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"iterations": 0}, "iterations"),
        ({"samples": 1.5}, "samples"),
        ({"textureless": 1.1}, "textureless"),
        ({"lambda_entropy": -1.0}, "lambda_entropy"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"plane_resolutions": (8, 4)}, "plane_resolutions"),
        ({"learning_rate": math.nan}, "learning_rate"),
    ],
)
def test_impossible_settings_are_refused(wrong, name):
    with pytest.raises(InputError, match=name):
        DreamFusionSettings(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"polar_deg": (0.0, 90.0)}, {"azimuth_deg": (10.0, -10.0)}, {"radius": (0.0, 1.0)},
     {"fov_deg": (10.0, 175.0)}],
)  # fmt: skip
def test_impossible_views_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        ViewRanges(**wrong)
