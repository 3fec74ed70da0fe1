"""The paper's losses, equations 4 to 7, and the perceptual distances that fit into them.

Images are [B,3,H,W] in [0,1]. A perceptual distance is any callable of two image batches that
returns one number per image, [B]; `files/perceptual.py` loads those there are.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..geometry.volume import activate_density
from ..types import Renderer, Triplane

Perceptual = Callable[[Tensor, Tensor], Tensor]


def plane_loss(
    planes: Tensor,  # [B,3,C,R,R], H(I_f)
    target: Tensor,  # [B,3,C,R,R], p
) -> Tensor:
    """Return eq. 4, the mean |H(I_f) - p|."""
    return nn.functional.l1_loss(planes, target)


def reconstruction_loss(image: Tensor, target: Tensor, perceptual: Perceptual) -> Tensor:
    """Return eq. 5: the mean |G*(I_f, v) - I_v| + lpips(G*(I_f, v), I_v)."""
    return nn.functional.l1_loss(image, target) + perceptual(image, target).mean()


def edge_loss(a: Tensor, b: Tensor) -> Tensor:  # [...,H,W]
    """Return the L1 of the steps between neighbouring pixels, along rows plus along columns."""
    difference = a - b
    return difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()


def density_at(
    renderer: Renderer,
    triplane: Triplane,
    points: Tensor,  # [B,N,3], scene units
) -> Tensor:
    """Return density [B,N,1], >= 0 per scene unit, at points."""
    folded = renderer.fold(triplane.planes, triplane.regions)
    return activate_density(renderer.decode_density(folded, points))


def density_loss(
    renderer: Renderer,
    triplane: Triplane,
    points: Tensor,  # [B,N,3], scene units: sample points of the current rendering
    delta: Tensor,  # [B,N,3], small Gaussian noise
) -> Tensor:
    """Return eq. 6, the mean |sigma(x) - sigma(x + delta * x)|."""
    both = torch.cat([points, points + delta * points], dim=1)
    here, there = density_at(renderer, triplane, both).chunk(2, dim=1)
    return (here - there).abs().mean()


def total_loss(
    reconstruction: Tensor, density: Tensor, *, lambda_rec: float = 10.0, lambda_dr: float = 0.2
) -> Tensor:
    """Return eq. 7: lambda_rec * L_rec + lambda_dr * L_dr."""
    return lambda_rec * reconstruction + lambda_dr * density


def distance_name(perceptual: Perceptual) -> str:
    """Return what a portrait's record calls the distance it was made with."""
    name = getattr(perceptual, "name", None) or getattr(perceptual, "__name__", None)
    return str(name or type(perceptual).__name__)
