"""Networks and portraits small enough that a training step takes milliseconds."""

from dataclasses import replace

import torch

from freestyle_core.files.bundle import weights_hash
from freestyle_core.geometry.cameras import grid_cameras
from freestyle_core.method.render import render_views
from freestyle_core.method.sample import sample_portrait
from freestyle_core.models.config import EG3DConfig
from freestyle_core.models.eg3d import EG3D
from freestyle_core.models.i2t import I2T, I2TConfig
from freestyle_core.models.perceptual import PerceptualConfig, PerceptualDistance, PerceptualNet
from freestyle_core.models.style_pack import StylePackConfig, StylePackNet
from freestyle_core.types import FewShotSet, StylePack, Triplane


def tiny_eg3d(seed=0, **changes):
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
        depth_samples=6,
        importance_samples=6,
        ray_end=3.15,
        white_background=True,
    )
    return EG3D(EG3DConfig(**{**sizes, **changes})).eval()


def tiny_i2t(seed=1, **changes):
    torch.manual_seed(seed)
    sizes = dict(
        image_resolution=16,
        plane_resolution=8,
        plane_channels=4,
        code_channels=4,
        code_size=4,
        channel_base=64,
        channel_max=8,
        encoder_channels=(4, 8),
    )
    return I2T(I2TConfig(**{**sizes, **changes})).eval()


def tiny_perceptual(seed=2):
    torch.manual_seed(seed)
    return PerceptualDistance(PerceptualNet(PerceptualConfig(channels=(4, 8))))


def tiny_portrait(eg3d, seed=0):
    return sample_portrait(eg3d, seed)


def tiny_set(eg3d, *, seed=0, prompt="a bronze statue", views=2):
    cameras = grid_cameras(views, eg3d.config.rig())
    size = eg3d.config.image_resolution
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(1, 3, 1, 1, generator=generator).expand(len(cameras), 3, size, size)
    texture = torch.rand(len(cameras), 3, size, size, generator=generator)
    return FewShotSet(0.7 * images + 0.3 * texture, cameras, 0, prompt)


def reachable_set(eg3d, *, seed=0, views=2):
    """Return a set that some planes show exactly: renderings of one even colour."""
    cameras = grid_cameras(views, eg3d.config.rig())
    portrait = tiny_portrait(eg3d)
    shape = portrait.triplane.planes.shape
    colour = torch.randn(*shape[:3], 1, 1, generator=torch.Generator().manual_seed(seed))
    planes = 20 * colour.expand(shape)
    images = render_views(replace(portrait, triplane=Triplane(planes, 1.0)), cameras).image
    return FewShotSet(images, cameras, 0, "a bronze statue")


def tiny_pack(eg3d, value=0.25, **given):
    """Return a style pack that adds the same number everywhere."""
    sizes = {"hidden": 2, "mean_reduction": 2, "mean_levels": 1, "gain": 1.0}
    network = StylePackNet(StylePackConfig.of(eg3d.config, **sizes)).requires_grad_(False)
    network.mean[0].fill_(value)
    renderer = weights_hash(eg3d.renderer().state_dict())
    own = {"prompt": "an elf", "renderer": renderer, "eg3d": "tiny"}
    return StylePack(network.eval(), **{**own, **given})
