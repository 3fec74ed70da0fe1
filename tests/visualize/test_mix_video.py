from dataclasses import replace

import pytest
import torch

from freestyle_core.geometry.cameras import orbit_cameras, turntable_cameras
from freestyle_core.method.areas import Area
from freestyle_core.method.mix import mix_many, mix_portraits
from freestyle_core.method.render import render_views
from freestyle_core.types import StyleCode, Triplane
from freestyle_core.visualize.mix_video import (
    even_weights,
    mixed_pictures,
    render_sweep,
    sweep_amounts,
    sweep_weights,
)
from freestyle_core.visualize.turntable import TurntableSettings
from tests.tiny import tiny_eg3d, tiny_i2t, tiny_portrait


def test_amounts_are_slow_at_both_ends_and_loop():
    # (1 - cos) / 2 at 0, 45, 90, ... degrees
    expected = [0, 0.146447, 0.5, 0.853553, 1, 0.853553, 0.5, 0.146447]
    assert sweep_amounts(8) == pytest.approx(expected, abs=1e-6)
    # once: 0, 45, ..., 180 degrees
    assert sweep_amounts(5, there_and_back=False) == pytest.approx(expected[:5], abs=1e-6)
    assert sweep_amounts(1, there_and_back=False) == [0]


def styled(eg3d, network, seed):
    portrait = tiny_portrait(eg3d)
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        w_s = network.encode(image)
        planes = network.decode(w_s)
    triplane = Triplane(planes, portrait.triplane.box_size)
    return replace(portrait, triplane=triplane, style=StyleCode(w_s, network, "parent"))


def test_every_picture_is_that_mix_from_that_camera():
    eg3d = tiny_eg3d()
    # an untrained network does not listen to its code, so each style has its own network
    a, b = styled(eg3d, tiny_i2t(1), 0), styled(eg3d, tiny_i2t(5), 1)
    cameras = turntable_cameras(4, eg3d.config.rig())
    steps = []
    pictures = render_sweep(a, b, cameras, progress=lambda d, t, p=None: steps.append((d, t)))
    # between the pictures, a sign of life from inside each: a cancel is heard there
    assert steps == sorted(steps)
    assert steps[0] == (0, 4) and steps[-1] == (4, 4)
    assert all(steps.count((done, 4)) > 1 for done in range(4))
    for index, amount in enumerate((0.0, 0.5, 1.0, 0.5)):
        expected = render_views(mix_portraits(a, b, amount), cameras[index]).image[0]
        torch.testing.assert_close(pictures[index], expected)
    assert not torch.equal(pictures[0], pictures[2])


def test_sheet_and_video_are_mixed_in_the_space_that_was_asked_for():
    eg3d = tiny_eg3d()
    a, b = styled(eg3d, tiny_i2t(1), 0), styled(eg3d, tiny_i2t(5), 1)
    made = {
        space: mixed_pictures(a, b, steps=3, frames=4, turntable=TurntableSettings(), space=space)
        for space in ("codes", "planes")
    }
    front = orbit_cameras([0.0], [0.0], eg3d.config.rig())
    for space, pictures in made.items():
        middle = mix_portraits(a, b, 0.5, space=space)
        torch.testing.assert_close(pictures.sheet[1, 1], render_views(middle, front).image[0])
        turned = replace(TurntableSettings(), frames=4).cameras(eg3d.config.rig())
        torch.testing.assert_close(pictures.frames[1], render_views(middle, turned[1]).image[0])
    assert not torch.equal(made["codes"].sheet[:, 1], made["planes"].sheet[:, 1])
    assert torch.equal(made["codes"].sheet[:, ::2], made["planes"].sheet[:, ::2])  # the ends


def test_more_than_two_come_one_after_another_and_back_to_the_first():
    half = pytest.approx([0.5, 0.5, 0], abs=1e-9)
    loop = sweep_weights(6, 3)  # two frames a leg: A, AB, B, BC, C, CA
    assert loop[0] == pytest.approx([1, 0, 0]) and loop[1] == half
    assert loop[2] == pytest.approx([0, 1, 0]) and loop[3] == pytest.approx([0, 0.5, 0.5])
    assert loop[4] == pytest.approx([0, 0, 1]) and loop[5] == pytest.approx([0.5, 0, 0.5])
    once = sweep_weights(5, 3, there_and_back=False)
    assert once == [pytest.approx(row) for row in (*loop[:4], [0, 0, 1])]
    # slow at the stops: a quarter of a leg is (1 - cos 45) / 2 of the way
    assert sweep_weights(12, 3)[1] == pytest.approx([0.853553, 0.146447, 0], abs=1e-6)
    assert all(sum(row) == pytest.approx(1) for row in sweep_weights(7, 4))
    assert sweep_weights(8, 2) == [[1 - t, t] for t in sweep_amounts(8)]
    assert even_weights(5, 3) == [[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0, 0.5, 0.5], [0, 0, 1]]


def test_a_sweep_of_three_shows_their_mixes():
    eg3d = tiny_eg3d()
    three = [tiny_portrait(eg3d, seed) for seed in (1, 2, 3)]
    cameras = turntable_cameras(6, eg3d.config.rig())
    pictures = render_sweep(*three[:2], cameras, others=three[2:])
    for index, weights in enumerate(sweep_weights(6, 3)):
        expected = render_views(mix_many(three, weights), cameras[index]).image[0]
        torch.testing.assert_close(pictures[index], expected)


def test_a_sweep_in_an_area_leaves_the_rest():
    eg3d = tiny_eg3d()
    a, b = tiny_portrait(eg3d, 1), tiny_portrait(eg3d, 2)
    weights = torch.zeros(9, 9, 9)
    weights[:4] = 1
    area = Area(weights, "mask")
    made = mixed_pictures(a, b, steps=2, frames=2, turntable=TurntableSettings(), area=area)
    front = orbit_cameras([0.0], [0.0], eg3d.config.rig())
    mixed = mix_portraits(a, b, 1.0, area=area)
    torch.testing.assert_close(made.sheet[1, 1], render_views(mixed, front).image[0])
    torch.testing.assert_close(made.sheet[1, 0], render_views(a, front).image[0])
