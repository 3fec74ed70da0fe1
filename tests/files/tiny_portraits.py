"""Tiny generators and portraits for the tests of files."""

import torch

from freestyle_core.files.bundle import load_bundle, save_bundle, weights_hash
from freestyle_core.models.config import EG3DConfig
from freestyle_core.models.eg3d import EG3D
from freestyle_core.types import Portrait, StyleCode, Triplane
from tests.tiny import tiny_i2t as make_i2t


def make_eg3d(seed=0, **changes):
    torch.manual_seed(seed)
    sizes = dict(
        name="tiny",
        z_dim=8,
        w_dim=8,
        plane_resolution=8,
        plane_channels=4,
        channel_base=64,
        channel_max=8,
        decoder_hidden=8,
        feature_channels=4,
        image_resolution=16,
        neural_resolution=8,
        superresolution="2X",
        sr_channels=(4, 4),
        sr_input_resolution=8,
    )
    return EG3D(EG3DConfig(**{**sizes, **changes})).eval()


def make_portrait(eg3d, *, styled):
    generator = torch.Generator().manual_seed(3)
    w = torch.randn(1, eg3d.config.num_ws, 8, generator=generator)
    provenance = {"seed": 3, "prompt": "a bronze statue"}
    if not styled:
        with torch.no_grad():
            planes = eg3d.planes(w)
        return Portrait(eg3d.renderer(), Triplane(planes, 1.0), w, None, provenance)
    network = make_i2t()
    with torch.no_grad():
        w_s = network.encode(torch.rand(1, 3, 16, 16, generator=generator))
        planes = network.decode(w_s)
    style = StyleCode(w_s, network, "parent-hash")
    return Portrait(eg3d.renderer(), Triplane(planes, 1.0), w, style, provenance)


def assert_same_state(a, b):
    assert weights_hash(a.state_dict()) == weights_hash(b.state_dict())


def rewrite(path, *, config=None, state=None, extra=None):
    bundle = load_bundle(path, "portrait")
    save_bundle(
        path,
        "portrait",
        {**bundle.config, **(config or {})},
        {**bundle.state, **(state or {})},
        {**bundle.extra, **(extra or {})},
    )
