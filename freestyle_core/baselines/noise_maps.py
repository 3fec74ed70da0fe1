"""Noise maps that learn along with w, and what keeps them noise (Karras et al. 2020, appendix D).

Without it, the picture would be painted into the noise. The super-resolution of EG3D adds no noise
("none" in all published models), so its maps show nothing and are left out.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..models.eg3d import EG3D
from ..models.layers import SynthesisLayer

SMALLEST_MAP = 8  # texels, of a map that is still compared with itself shifted


def noise_layers(eg3d: EG3D) -> Iterator[SynthesisLayer]:
    """Yield the layers of the backbone that add noise to what they make."""
    for module in eg3d.backbone.synthesis.modules():
        if isinstance(module, SynthesisLayer):
            yield module


def fresh_maps(
    eg3d: EG3D,
    generator: torch.Generator,  # CPU
) -> list[nn.Parameter]:  # [r,r] each
    """Put random noise maps that can learn in place of the generator's, and return them."""
    maps = []
    for layer in noise_layers(eg3d):
        drawn = torch.randn(layer.noise_const.shape, generator=generator).to(layer.noise_const)
        del layer.noise_const  # a buffer makes no room for a parameter
        layer.noise_const = nn.Parameter(drawn)
        maps.append(layer.noise_const)
    return maps


def noise_loss(maps: list[nn.Parameter]) -> Tensor:  # [r,r] each
    """Return how much the maps look like a picture: squared correlations of neighbours.

    At each size, halved down to 8, the map is compared with itself shifted by one texel along
    either axis (Karras et al. 2020, appendix D).
    """
    total: Tensor | None = None
    for noise in maps:
        level = noise[None, None]
        while True:
            for axis in (2, 3):
                term = (level * level.roll(1, dims=axis)).mean().square()
                total = term if total is None else total + term
            if level.shape[-1] <= SMALLEST_MAP:
                break
            level = F.avg_pool2d(level, 2)
    if total is None:
        raise InputError("there are no noise maps to compare")
    return total


@torch.no_grad()
def renormalise(maps: list[nn.Parameter]) -> None:
    """Bring every map back to mean 0 and variance 1, in place."""
    for noise in maps:
        noise.sub_(noise.mean())
        noise.mul_(noise.square().mean().rsqrt())
