"""The procedural head: its primitives, how a code becomes parameters and colours, its mirror."""

import math

import pytest
import torch
from torch.testing import assert_close

from freestyle_core.clay.heads.head import (
    LATENT,
    PARAMETERS,
    eye_place,
    head_field,
    identity_parameters,
    mouth_lift,
    palette,
)
from freestyle_core.clay.heads.sdf import capsule, ellipsoid, length, smax, smin, sphere
from tests.identities import identity_code


def at(*points):
    return torch.tensor(points, dtype=torch.float32).T.unbind(0)


def test_a_blended_union_dips_by_a_quarter_of_the_radius_where_both_meet():
    a, b = torch.tensor([0.3, 0.1, 0.9, 0.25]), torch.tensor([0.3, 0.9, 0.1, 0.35])
    # far apart: the smaller; by 0.1 of 0.2: h = 0.75, 0.35 - 0.1 * 0.75 - 0.2 * 0.75 * 0.25
    assert_close(smin(a, b, 0.2), torch.tensor([0.25, 0.1, 0.1, 0.2375]))
    assert_close(smax(-a, -b, 0.2), torch.tensor([-0.25, -0.1, -0.1, -0.2375]))


def test_length_sphere_and_capsule():
    x, y, z = at([3.0, 4.0, 12.0], [0.0, 0.0, 0.0])
    assert_close(length(x, y, z), torch.tensor([13.0, 1e-6]))
    assert_close(sphere(*at([1.0, 2.0, 5.0]), (1, 2, 3), 0.5), torch.tensor([1.5]))
    # beyond the start, beside the middle (radius 0.15 there) and beyond the end
    got = capsule(*at([0, -1, 0], [0.4, 1, 0], [0, 3, 0]), (0, 0, 0), (0, 2, 0), 0.2, 0.1)
    assert_close(got, torch.tensor([0.8, 0.25, 0.9]))


def test_an_ellipsoid_is_exact_on_its_surface_and_along_its_axes():
    points = at([1.5, 2, 3], [1.25, 2, 3], [1, 2.25, 3], [1, 2, 4], [1.3, 2.2, 3])
    got = ellipsoid(*points, (1, 2, 3), (0.5, 0.25, 1.0))
    # on the surface; half way in: -a/2; on; on; (0.6, 0.8, 0) of the axes: 0.5^2 k1 aside, on
    assert_close(got, torch.tensor([0.0, -0.25, 0.0, 0.0, 0.0]), atol=1e-6, rtol=0)


def test_a_code_of_equal_numbers_puts_every_parameter_at_one_place_of_its_range():
    got = identity_parameters(torch.full((LATENT,), 7.0))
    # of length sqrt(64) after normalising: every number is 1, and 84.13 % of normals lie below
    share = 0.5 * (1 + math.erf(1 / math.sqrt(2)))
    assert set(got) == set(PARAMETERS)
    for name, (low, high) in PARAMETERS.items():
        assert got[name] == pytest.approx(low + (high - low) * share, abs=1e-9)


def test_only_the_direction_of_a_code_counts():
    code = identity_code(5)
    assert identity_parameters(3 * code) == pytest.approx(identity_parameters(code))
    assert identity_parameters(-code) != pytest.approx(identity_parameters(code))


MIDDLE = {name: (low + high) / 2 for name, (low, high) in PARAMETERS.items()}


def test_colours_of_the_middle_head():
    colors = palette(MIDDLE | {"hairh": 0.1, "clothh": 0.0, "eyeh": 1.0})
    assert_close(colors["skin"], torch.tensor([0.90, 0.62, 0.45]))  # the third of five
    # half way between the first two of six, times 0.85 + 0.3 / 2
    assert_close(colors["hair"], torch.tensor([0.19, 0.12, 0.09]))
    assert_close(colors["iris"], torch.tensor([0.36, 0.40, 0.46]))
    # hue 0 is red: value 0.6, saturation 0.525
    assert_close(colors["cloth"], torch.tensor([0.6, 0.6 * 0.475, 0.6 * 0.475]))
    assert_close(colors["lip"], torch.tensor([0.90 * 0.92 + 0.04, 0.62 * 0.58, 0.45 * 0.57]))
    warm = palette(MIDDLE | {"skinw": 1.0})["skin"]
    assert_close(warm, torch.tensor([0.90, 0.62, 0.45 * 1.03]))
    blue = palette(MIDDLE | {"clothh": 2 / 3})["cloth"]
    assert_close(blue, torch.tensor([0.6 * 0.475, 0.6 * 0.475, 0.6]))


def test_eyes_and_mouth_follow_their_parameters():
    p = MIDDLE | {"eyesep": 1.1, "eye": 2.0, "smile": 0.5}
    assert eye_place(p) == pytest.approx((0.0869, 0.022, 0.150, 0.094))
    # 0.5 * 5.5 * x^2, no higher than at x^2 = 0.007
    lift = mouth_lift(torch.tensor([0.0, 0.02, -0.02, 0.2]), p)
    assert_close(lift, torch.tensor([0.0, 0.0011, 0.0011, 0.01925]))


def test_all_but_the_hair_is_the_same_on_both_sides():
    points = torch.rand(2000, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    x, y, z = points.T
    p = identity_parameters(identity_code(3)) | {"part": 1.0}
    right, left = head_field(x, y, z, p), head_field(-x, y, z, p)
    assert_close(right[[0, 2, 3, 4, 5]], left[[0, 2, 3, 4, 5]], atol=1e-6, rtol=1e-5)
    assert (right[1] - left[1]).abs().max() > 0.01


def test_what_a_parameter_names_grows_with_it():
    """Each makes a point of its own part sink deeper, or come out of it."""
    places = {  # parameter: (material, point), which higher values reach
        "nosel": (0, (0.0, -0.045, 0.245)),
        "chin": (0, (0.0, -0.225, 0.13)),
        "width": (0, (0.20, 0.07, -0.03)),
        "headh": (0, (0.0, 0.29, -0.03)),
        "ear": (0, (0.205, 0.06, -0.02)),
        "neck": (0, (0.10, -0.30, -0.04)),
        "eye": (3, (0.079, 0.022, 0.20)),
        "mouthw": (5, (0.075, -0.12, 0.17)),
        "lip": (5, (0.0, -0.14, 0.184)),
        "browt": (4, (0.082, 0.108, 0.175)),
        "hairvol": (1, (0.0, 0.33, -0.04)),
        "hairlen": (1, (0.0, -0.3, -0.1)),
        "bun": (1, (0.0, 0.31, -0.13)),
        "quiff": (1, (0.0, 0.27, 0.1)),
        "beard": (1, (0.0, -0.24, 0.1)),
    }
    for name, (material, point) in places.items():
        low, high = PARAMETERS[name]
        x, y, z = torch.tensor(point)[:, None]
        small, large = (head_field(x, y, z, MIDDLE | {name: v})[material] for v in (low, high))
        assert large < small - 1e-3, name
