"""The official ffhq512-128 sizes with random weights, on the CPU: about half a minute, 2 GB."""

import pytest
import torch

from freestyle_core.baselines.random_models import full_size_eg3d, full_size_i2t
from freestyle_core.geometry.cameras import front_camera
from freestyle_core.method.render import render_views
from freestyle_core.method.sample import sample_portrait
from freestyle_core.models.i2t import check_i2t_fits


@pytest.mark.slow
def test_a_full_size_generator_makes_a_frame_and_its_network_planes():
    eg3d = full_size_eg3d()  # part empty, part opaque instead of thin fog
    assert sum(p.numel() for p in eg3d.parameters()) == 30_662_136
    portrait = sample_portrait(eg3d, 0)
    assert portrait.w.shape == (1, 14, 512)
    assert portrait.triplane.planes.shape == (1, 3, 32, 256, 256)
    out = render_views(portrait, front_camera(eg3d.config.rig()))
    assert out.image.shape == (1, 3, 512, 512) and out.raw.shape == (1, 3, 128, 128)
    assert out.depth.shape == out.alpha.shape == (1, 1, 128, 128)
    assert out.image.isfinite().all() and out.image.std() > 0.02
    assert 2.2 < out.depth.min() and out.depth.max() < 3.4  # ray limits, one step further at most

    i2t = full_size_i2t()
    check_i2t_fits(i2t.config, eg3d.config)
    with torch.no_grad():
        assert i2t(out.image).shape == portrait.triplane.planes.shape
