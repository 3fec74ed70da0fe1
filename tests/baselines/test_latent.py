"""The search for w: its schedule by hand, its noise terms by slow loops, and that it finds."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from freestyle_core.baselines.latent import (
    LatentSettings,
    find_latent,
    noise_of,
    sampled_heads,
    symmetry_loss,
)
from freestyle_core.baselines.noise_maps import (
    fresh_maps,
    noise_layers,
    noise_loss,
    renormalise,
)
from freestyle_core.baselines.view import View
from freestyle_core.errors import InputError
from freestyle_core.files.bundle import weights_hash
from freestyle_core.geometry.cameras import front_camera
from freestyle_core.method.render import RenderSettings
from tests.tiny import tiny_eg3d, tiny_perceptual

QUICK = LatentSettings(steps=10, idle_steps=0, samples=32, noise="own")


def view_of(eg3d, ws):
    camera = front_camera(eg3d.config.rig())
    blank = View(torch.zeros(1), camera, RenderSettings(), torch.Generator().manual_seed(1))
    with torch.no_grad():
        return replace(blank, picture=blank.of(eg3d, eg3d.planes(ws), ws).image)


def test_the_rate_rises_for_a_twentieth_and_falls_as_a_cosine_in_the_last_quarter():
    settings = LatentSettings(steps=400, idle_steps=0)
    assert settings.rate(0) == 0
    assert settings.rate(10) == pytest.approx(0.005)  # half of 5 per cent of 400
    assert settings.rate(20) == settings.rate(200) == settings.rate(300) == 0.01
    assert settings.rate(350) == pytest.approx(0.005)  # half of the last quarter
    assert settings.rate(375) == pytest.approx(0.005 * (1 - math.cos(math.pi / 4)))


def test_the_steps_in_which_only_the_pose_is_learned_are_left_out_of_the_schedule():
    settings = LatentSettings()
    assert settings.count() == 350
    assert settings.clock(175) == 0.5
    assert settings.rate(306.25) == pytest.approx(0.005)


def test_noise_on_w_fades_as_a_square_over_three_quarters():
    settings = LatentSettings(steps=400, idle_steps=0)
    scales = [settings.noise_scale(step) for step in (0, 150, 300, 399)]
    assert scales == pytest.approx([0.05, 0.05 / 4, 0, 0])


def slow_noise_loss(noise):
    size, total = noise.shape[-1], 0.0
    for dy, dx in ((1, 0), (0, 1)):
        products = [
            float(noise[y, x] * noise[y - dy, x - dx]) for y in range(size) for x in range(size)
        ]
        total += (sum(products) / len(products)) ** 2
    if size <= 8:
        return total
    half = noise.reshape(size // 2, 2, size // 2, 2).mean((1, 3))
    return total + slow_noise_loss(half)


def test_noise_maps_are_compared_with_themselves_shifted_at_every_size():
    noise = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
    assert float(noise_loss([noise])) == pytest.approx(slow_noise_loss(noise), rel=1e-4)
    flat = [torch.ones(16, 16), torch.ones(4, 4)]
    assert float(noise_loss(flat)) == 2 * 2 + 2  # two axes, at 16 and 8, and at 4
    with pytest.raises(InputError, match="no noise maps"):
        noise_loss([])


def test_noise_maps_are_brought_back_to_mean_0_and_variance_1():
    noise = nn.Parameter(torch.arange(16.0).reshape(4, 4))
    renormalise([noise])
    assert float(noise.mean()) == pytest.approx(0, abs=1e-6)
    assert float(noise.square().mean()) == pytest.approx(1)


def test_fresh_maps_take_the_place_of_the_generators():
    eg3d = tiny_eg3d()
    maps = fresh_maps(eg3d, torch.Generator().manual_seed(3))
    assert len(maps) == 3 == len(list(noise_layers(eg3d)))  # b4 has one, b8 two
    for layer, noise in zip(noise_layers(eg3d), maps, strict=True):
        layer.noise_strength.data.fill_(1.0)
        assert layer.noise_const is noise
    planes = eg3d.planes(torch.randn(1, eg3d.config.num_ws, 8))
    planes.square().sum().backward()
    assert all(float(noise.grad.abs().max()) > 0 for noise in maps)


@pytest.mark.parametrize(("strength", "expected"), [(0.0, "random"), (50.0, "const")])
def test_a_generator_that_needs_its_own_noise_keeps_it(strength, expected):
    eg3d = tiny_eg3d()
    for layer in noise_layers(eg3d):
        layer.noise_strength.data.fill_(strength)
        layer.weight.data.mul_(1e-3)
    with torch.no_grad():  # noise changes what is seen, not only the planes
        eg3d.decoder.net[2].weight[0] *= 20
    heads = sampled_heads(eg3d, QUICK, 0)
    view = view_of(eg3d, heads.w[:1, None].expand(-1, eg3d.config.num_ws, -1))
    auto = replace(QUICK, noise="auto")
    assert noise_of(eg3d, view, heads, auto, 0) == expected
    assert noise_of(eg3d, view, heads, replace(QUICK, noise="other"), 0) == "random"
    assert noise_of(eg3d, view, heads, QUICK, 0) == "const"


def test_heads_are_truncated_towards_the_average():
    eg3d = tiny_eg3d()
    whole = sampled_heads(eg3d, replace(QUICK, psi=1.0), 0)
    half = sampled_heads(eg3d, replace(QUICK, psi=0.5), 0)
    average = eg3d.backbone.mapping.w_avg
    torch.testing.assert_close(half.w, average + 0.5 * (whole.w - average))
    spread = (whole.w - whole.w.mean(0)).square().sum(1).mean().sqrt()
    assert whole.spread == pytest.approx(float(spread))
    assert half.spread == pytest.approx(whole.spread / 2, rel=1e-4)


def test_symmetry_is_measured_on_the_whole_lattice():
    eg3d = tiny_eg3d()
    planes = torch.randn(1, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    axis = torch.linspace(-0.5, 0.5, 64)
    points = torch.cartesian_prod(axis, axis, axis)[None]
    density = eg3d.renderer().decode_density(planes, points).reshape(64, 64, 64)
    expected = ((density - density.flip(0)) / 64).square().sum() / 1e4
    torch.testing.assert_close(symmetry_loss(eg3d, planes), expected, rtol=1e-3, atol=0)
    # x is the width of planes xy and xz and the height of zx
    mirrored = torch.stack([planes[:, 0].flip(-1), planes[:, 1].flip(-1), planes[:, 2].flip(-2)], 1)
    assert float(symmetry_loss(eg3d, planes + mirrored)) < 1e-6 * float(expected)


@pytest.mark.parametrize("space", ["w", "w+"])
def test_a_picture_of_the_generator_is_found_again(space):
    eg3d = tiny_eg3d(sr_clamp=None)
    heads = sampled_heads(eg3d, QUICK, 7)
    view = view_of(eg3d, heads.w[:1, None].expand(-1, eg3d.config.num_ws, -1))
    before, reports = weights_hash(eg3d.state_dict()), []
    settings = replace(QUICK, space=space, steps=60, learning_rate=0.1)
    found = find_latent(
        eg3d,
        view,
        tiny_perceptual(),
        settings,
        progress=lambda *a: reports.append(a[:2]),
    )
    told = found.losses["perceptual"]
    assert sum(told[-5:]) < 0.3 * sum(told[:5])
    assert reports[-1] == (60, 60) and found.noise == "const"
    assert found.ws.shape == (1, eg3d.config.num_ws, 8)
    rows_are_one = torch.equal(found.ws[:, :1].expand_as(found.ws), found.ws)
    assert rows_are_one == (space == "w")
    assert weights_hash(eg3d.state_dict()) == before


def test_the_search_starts_from_the_nearest_of_some_heads():
    eg3d = tiny_eg3d()
    settings = replace(QUICK, steps=0, starts=6)
    heads = sampled_heads(eg3d, settings, 0)
    view = view_of(eg3d, heads.w[4:5, None].expand(-1, eg3d.config.num_ws, -1))
    found = find_latent(eg3d, view, tiny_perceptual(), settings)
    assert torch.equal(found.ws[0, 0], heads.w[4])
    from_mean = find_latent(eg3d, view, tiny_perceptual(), replace(settings, starts=0))
    assert torch.equal(from_mean.ws[0, 0], heads.mean[0])


def test_symmetry_is_shown_without_being_lowered_or_lowered():
    eg3d = tiny_eg3d()
    ws, lost = torch.randn(1, eg3d.config.num_ws, 8), []
    for weight in (0.0, -1.0, 1e4):
        settings = replace(QUICK, space="w+", lambda_symmetry=weight)
        lost.append(find_latent(eg3d, view_of(eg3d, ws), tiny_perceptual(), settings).losses)
    assert lost[0]["perceptual"] == lost[1]["perceptual"] != lost[2]["perceptual"]
    assert "symmetry" not in lost[0] and len(lost[1]["shown symmetry"]) == 10
    assert lost[2]["symmetry"][0] == pytest.approx(1e4 * lost[1]["shown symmetry"][0], rel=1e-3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"space": "z"},
        {"noise": "none"},
        {"steps": -1},
        {"samples": 1},
        {"learning_rate": 0.0},
        {"w_noise_share": 0.0},
        {"lambda_noise": -1.0},
        {"psi": math.nan},
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        LatentSettings(**wrong)
