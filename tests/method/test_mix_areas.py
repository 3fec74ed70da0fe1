from dataclasses import replace

import pytest
import torch

from freestyle_core.geometry.cameras import orbit_cameras
from freestyle_core.method.areas import Area
from freestyle_core.method.mix import mix_frames, mix_portraits
from freestyle_core.method.render import render_views
from tests.method.styled import modulated, styled
from tests.tiny import tiny_eg3d, tiny_portrait


@pytest.fixture
def eg3d():
    return tiny_eg3d()


def left_half(name="mask"):
    weights = torch.zeros(9, 9, 9)
    weights[:4] = 1.0  # nothing from x = 0 on, everything up to x = -1/8
    return Area(weights, name)


@pytest.mark.parametrize("space", ["planes", "codes"])
def test_in_an_area_it_is_the_mix_and_elsewhere_the_first_bit_by_bit(eg3d, space):
    a, b = (styled(eg3d, modulated(seed), seed=seed) for seed in (1, 2))
    got = mix_portraits(a, b, 0.25, space=space, area=left_half())
    there = mix_portraits(a, b, 0.25, space=space)
    points = torch.rand(1, 400, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    decoded = [
        p.renderer.decode(p.renderer.fold(p.triplane.planes, p.triplane.regions), points)[1][0]
        for p in (got, a, there)
    ]
    right, left = points[0, :, 0] >= 0, points[0, :, 0] <= -0.125
    assert torch.equal(decoded[0][right], decoded[1][right])
    torch.testing.assert_close(decoded[0][left], decoded[2][left], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(decoded[1][left], decoded[2][left], atol=1e-3)
    assert torch.equal(got.w, a.w) and got.style is None
    assert got.provenance["area"] == "mask" and got.provenance["amount"] == 0.25


def test_the_picture_beside_an_area_is_the_first_ones(eg3d):
    a, b = tiny_portrait(eg3d, 1), tiny_portrait(eg3d, 2)
    b = replace(b, triplane=replace(b.triplane, planes=5 * b.triplane.planes))
    got = mix_portraits(a, b, 1.0, area=left_half())
    front = orbit_cameras([0.0], [0.0], eg3d.config.rig())
    mixed, first, second = (render_views(p, front).raw for p in (got, a, b))
    assert torch.equal(mixed[..., 4:], first[..., 4:])  # the right half of 8 pixels
    torch.testing.assert_close(mixed[..., :2], second[..., :2], atol=1e-5, rtol=0)
    assert float((mixed - first)[..., :2].abs().max()) > 0.01


def test_a_portrait_with_a_region_is_mixed_on(eg3d):
    a, b, c = (tiny_portrait(eg3d, seed) for seed in (1, 2, 3))
    half = mix_portraits(a, b, 1.0, area=left_half())
    got = mix_portraits(half, c, 0.5)
    front = orbit_cameras([0.0], [0.0], eg3d.config.rig())
    right = render_views(mix_portraits(a, c, 0.5), front).raw[..., 4:]
    torch.testing.assert_close(render_views(got, front).raw[..., 4:], right, atol=1e-5, rtol=0)
    assert len(got.triplane.regions) == 1
    torch.testing.assert_close(got.triplane.regions[0].weights, left_half().weights / 2)
    assert mix_portraits(half, c, 1.0).triplane.regions == ()
    back = mix_portraits(half, c, 0.0).triplane.regions[0]
    assert torch.equal(back.weights, left_half().weights)


def test_frames_in_an_area_are_its_mixes(eg3d):
    a, b = tiny_portrait(eg3d, 1), tiny_portrait(eg3d, 2)
    for got, amount in zip(mix_frames(a, b, [0.0, 0.5], area=left_half()), (0.0, 0.5), strict=True):
        expected = mix_portraits(a, b, amount, area=left_half())
        assert len(got.triplane.regions) == len(expected.triplane.regions) == (amount > 0)
        for one, two in zip(got.triplane.regions, expected.triplane.regions, strict=True):
            assert torch.equal(one.planes, two.planes)
