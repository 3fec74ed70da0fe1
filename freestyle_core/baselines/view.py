"""One picture that a head is to show, and how the two are compared."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..method.render import RenderSettings, render
from ..models.eg3d import EG3D
from ..training.losses import Perceptual
from ..types import CameraBatch, Rendering, Triplane

PERCEPTUAL_PIXELS = 256  # larger pictures are compared at this size while w is searched


@dataclass(frozen=True)
class View:
    """One picture to be shown by a head, and how a head is rendered to be compared with it."""

    picture: Tensor  # [1,3,S,S] in [0,1]
    camera: CameraBatch  # one
    sizes: RenderSettings
    generator: torch.Generator  # CPU, of the places of the samples along the rays

    def of(self, eg3d: EG3D, planes: Tensor, ws: Tensor) -> Rendering:
        """Return the picture of planes [1,3,C,R,R] and ws [1,L,w], with gradients, not clamped."""
        config = eg3d.config
        sizes = self.sizes.resolved(config)
        shape = (1, sizes.neural_resolution**2)
        u = torch.rand(*shape, sizes.depth_samples, generator=self.generator).to(planes)
        fine, count = None, sizes.importance_samples
        if count:
            fine = torch.rand(*shape, count, generator=self.generator).to(planes)
            fine = (torch.arange(count).to(planes) + fine) / count
        triplane = Triplane(planes, config.box_size)
        return render(
            eg3d.renderer(), triplane, ws, self.camera, settings=sizes, u_coarse=u, u_fine=fine
        )


def pixel_loss(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean squared difference of pictures in [0,1], measured as if in [-1,1]."""
    return 4 * F.mse_loss(a, b)


def reduced(image: Tensor) -> Tensor:  # [1,3,S,S]
    """Return the picture at no more pixels than the search for w compares."""
    if image.shape[-1] <= PERCEPTUAL_PIXELS:
        return image
    return F.interpolate(image, size=(PERCEPTUAL_PIXELS, PERCEPTUAL_PIXELS), mode="area")


def likeness(
    image: Tensor,  # [1,3,S,S]
    target: Tensor,  # the same, in [0,1]
    perceptual: Perceptual,
) -> tuple[Tensor, Tensor]:
    """Return squared difference and perceptual distance, [] each."""
    return pixel_loss(image, target), perceptual(image, target).mean()


def shrunk(image: Tensor, side: int) -> Tensor:  # [1,3,S,S] -> [1,3,side,side]
    """Return the picture at the size of another, without aliases."""
    if image.shape[-1] == side:
        return image
    return F.interpolate(image, size=(side, side), mode="bilinear", antialias=True)


def depth_variation(depth: Tensor) -> Tensor:  # [V,1,h,h] -> []
    """Return the mean squared step between neighbours, along rows plus along columns."""
    return depth.diff(dim=-1).square().mean() + depth.diff(dim=-2).square().mean()
