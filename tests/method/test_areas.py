"""Masks on the front view that become weights in space, and the named parts of a head."""

import math
from dataclasses import replace

import pytest
import torch

from freestyle_core.errors import InputError
from freestyle_core.method import areas
from freestyle_core.method.areas import Area, LiftSettings, masked_area, named_area
from freestyle_core.types import Rendering
from tests.tiny import tiny_eg3d, tiny_portrait

SIZE = 16
SHARP = LiftSettings(softness=0.0, lattice=33, reach=0.1)


@pytest.fixture
def portrait():
    return tiny_portrait(tiny_eg3d())


@pytest.fixture
def wall(monkeypatch):
    """Let every portrait be a wall at z = 0 that fills the left three quarters of the picture."""
    heights = {}

    def render(portrait, cameras, *, settings):
        depth = torch.full((1, 1, 8, 8), 2.7 - heights.get(id(portrait), 0.0))
        alpha = torch.ones(1, 1, 8, 8)
        alpha[..., 6:] = 0
        depth[..., 6:] = 99.0  # what lies behind is not a surface
        return Rendering(torch.zeros(1, 3, 16, 16), depth, depth, alpha, cameras)

    monkeypatch.setattr(areas, "render_views", render)
    return heights


def at(area, x, y, z):
    """Return the weight at the lattice point that is nearest to a point in the unit cube."""
    last = len(area.weights) - 1
    return float(area.weights[tuple(round((v + 0.5) * last) for v in (x, y, z))])


def left_half():
    mask = torch.zeros(SIZE, SIZE)
    mask[:, : SIZE // 2] = 1
    return mask


def test_a_mask_holds_where_the_camera_sees_it(portrait, wall):
    area = masked_area(left_half(), [portrait], settings=SHARP)
    assert area.name == "mask" and area.weights.shape == (33, 33, 33)
    assert at(area, -0.2, 0.1, 0.0) == 1 and at(area, 0.2, 0.1, 0.0) == 0
    upper = masked_area(left_half().T.contiguous(), [portrait], settings=SHARP)  # y points up
    assert at(upper, 0.1, 0.2, 0.0) == 1 and at(upper, 0.1, -0.2, 0.0) == 0


def test_rays_spread_from_the_camera(portrait, wall):
    mask = torch.zeros(SIZE, SIZE)
    mask[:, 12:] = 1  # from a quarter of the picture right of the middle on
    area = masked_area(mask, [portrait], settings=replace(SHARP, through=True))
    # there x = z-distance / focal / 4: 0.158 at the pivot, 0.188 behind it, 0.129 before it
    for z, edge in ((0.0, 0.158), (-0.5, 0.188), (0.5, 0.129)):
        assert edge == pytest.approx((2.7 - z) / 4.2647 / 4, abs=1e-3)
        assert at(area, edge + 0.05, 0.0, z) == 1 and at(area, edge - 0.05, 0.0, z) == 0


def test_it_ends_below_the_surface_unless_it_shall_go_through(portrait, wall):
    area = masked_area(left_half(), [portrait], settings=SHARP)
    depths = [at(area, -0.0625, 0.0, z) for z in (0.4, 0.0, -0.0625, -0.15625, -0.25, -0.5)]
    assert depths[:3] == [1, 1, 1]  # before it, on it and down to 0.1 below
    t = 2 - math.dist((-0.0625, 0, 2.7), (0, 0, -0.15625)) / 0.1 + 2.7 / 0.1
    assert depths[3] == pytest.approx(t * t * (3 - 2 * t), abs=1e-3)  # fading, at 0.156 below
    assert depths[4:] == [0, 0]
    through = masked_area(left_half(), [portrait], settings=replace(SHARP, through=True))
    assert at(through, -0.0625, 0.0, -0.5) == 1 and at(through, 0.0625, 0.0, -0.5) == 0


def test_it_reaches_down_to_the_deeper_of_two_surfaces(portrait, wall):
    higher = replace(portrait)
    wall[id(higher)] = 0.3
    for pair in ([higher, portrait], [portrait, higher]):
        assert at(masked_area(left_half(), pair, settings=SHARP), -0.1, 0.0, -0.05) == 1
    alone = masked_area(left_half(), [higher], settings=SHARP)
    assert at(alone, -0.1, 0.0, -0.05) == 0


def test_beside_the_head_depth_goes_on_from_its_nearest_point(portrait, wall):
    area = masked_area(torch.ones(SIZE, SIZE), [portrait], settings=SHARP)
    assert at(area, 0.3, 0.0, 0.0) == 1 and at(area, 0.3, 0.0, -0.4) == 0


def test_edges_are_soft_and_end(portrait, wall):
    soft = replace(SHARP, softness=0.05)
    row = masked_area(left_half(), [portrait], settings=soft).weights[:, 16, 16]
    assert float(row[16]) == pytest.approx(0.5, abs=0.01)  # the middle lies on the edge
    assert (row.diff() <= 1e-6).all() and int(((row > 0) & (row < 1)).sum()) >= 5
    assert float(row[-1]) == 0


def test_a_larger_mask_of_the_same_picture_is_the_same_area(portrait, wall):
    small = masked_area(left_half(), [portrait], settings=SHARP)
    large = masked_area(left_half().repeat_interleave(4, 0).repeat_interleave(4, 1), [portrait])
    assert at(large, -0.2, 0.1, 0.0) == at(small, -0.2, 0.1, 0.0) == 1
    assert at(large, 0.2, 0.1, 0.0) == at(small, 0.2, 0.1, 0.0) == 0


BAD_MASKS = {
    "empty": (torch.zeros(SIZE, SIZE), "the mask is empty"),
    "smaller": (torch.ones(8, 8), "has 8 x 8 pixels, but the front view 16 x 16"),
    "odd": (torch.ones(24, 24), "24 x 24"),
    "wide": (torch.ones(16, 32), "32 x 16"),
    "two": (torch.ones(2, 16, 16), "16 x 16 x 2"),
    "nan": (torch.full((SIZE, SIZE), float("nan")), "from 0 to 1"),
    "bytes": (torch.full((SIZE, SIZE), 255.0), "from 0 to 1"),
}


@pytest.mark.parametrize("case", BAD_MASKS)
def test_masks_that_are_none_of_the_front_view_are_refused(portrait, case):
    mask, message = BAD_MASKS[case]
    with pytest.raises(InputError, match=message) as caught:
        masked_area(mask, [portrait])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "given", [{"softness": -0.1}, {"softness": float("nan")}, {"reach": 0.0}, {"lattice": 4}]
)
def test_settings_out_of_range_are_refused(given):
    with pytest.raises(InputError, match=next(iter(given))):
        LiftSettings(**given)


def test_a_view_without_a_head_is_refused(portrait, monkeypatch):
    def render(portrait, cameras, *, settings):
        empty = torch.zeros(1, 1, 8, 8)
        return Rendering(torch.zeros(1, 3, 16, 16), empty, empty, empty, cameras)

    monkeypatch.setattr(areas, "render_views", render)
    with pytest.raises(InputError, match="shows no head"):
        masked_area(left_half(), [portrait])


def test_named_parts_lie_where_heads_have_them():
    rig = tiny_eg3d().config.rig()
    hair, face, clothes = (named_area(n, rig, lattice=65) for n in ("hair", "face", "clothes"))
    unit = 2.7 / 4.2647  # the picture's width at the pivot
    places = {
        "nose": (0.0, -0.05, 0.35),
        "chin": (0.0, -0.25, 0.2),
        "crown": (0.0, 0.45, 0.0),
        "back": (0.0, 0.0, -0.35),
        "throat": (0.0, -0.35, 0.0),
        "shoulder": (0.4, -0.48, 0.0),
    }
    expected = {
        "nose": (0, 1, 0),
        "chin": (0, 1, 0),
        "crown": (1, 0, 0),
        "back": (1, 0, 0),
        "throat": (0, 0, 0),
        "shoulder": (0, 0, 1),
    }
    for place, (x, y, z) in places.items():
        got = [at(area, x * unit, y * unit, z * unit) for area in (hair, face, clothes)]
        assert got == pytest.approx(expected[place], abs=1e-3), place
    total = hair.weights + face.weights + clothes.weights
    assert float(total.max()) <= 1 + 1e-6 and float(total.min()) >= 0
    with pytest.raises(InputError, match="one of hair, face, clothes, got 'nose'"):
        named_area("nose", rig)


def test_two_areas_meet_where_both_are():
    a, b = Area(torch.full((2, 2, 2), 0.5), "mask"), Area(torch.full((2, 2, 2), 0.25), "hair")
    both = a & b
    assert both.weights.unique().tolist() == [0.125] and both.name == "mask in hair"
