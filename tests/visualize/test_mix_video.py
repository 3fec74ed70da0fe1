from dataclasses import replace

import pytest
import torch

from freestyle_core.geometry.cameras import orbit_cameras, turntable_cameras
from freestyle_core.method.mix import mix_portraits
from freestyle_core.method.render import render_views
from freestyle_core.types import StyleCode, Triplane
from freestyle_core.visualize.mix_video import mixed_pictures, render_sweep, sweep_amounts
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
