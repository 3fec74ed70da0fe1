"""How the field is seen: even samples along a ray, only where the box is not empty.

As in the released code's marcher, a coarse grid remembers where the density is worth a sample. A
first pass without gradients says what each ray has passed through; whatever lies behind what is
opaque is then left out, and so is the shading of samples that show nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...geometry.rays import Rays, box_limits
from ...geometry.triplane import FoldedPlanes
from ...geometry.volume import expected_depth
from .field import BOUND, Field
from .shading import Shading, normals, shade

CELLS = 48  # a side of the box
FADE = 0.95  # of what a cell is remembered to hold, at every look
MOST_EMPTY = 10.0  # density below which a cell never needs samples when the mean is higher
LEAST_PASSED = 1e-4  # of a ray's light: behind it nothing is seen
LEAST_WEIGHT = 1e-4  # of a sample that is shaded
NEAREST = 0.01  # field units from the camera


class Occupancy(nn.Module):
    """Which cells of the box hold anything."""

    density: Tensor  # [CELLS, CELLS, CELLS] over z, y, x

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("density", torch.zeros(CELLS, CELLS, CELLS))

    @torch.no_grad()
    def look(self, field: Field, planes: FoldedPlanes, jitter: Tensor) -> None:  # [CELLS^3,3]
        """Forget a little, and look at one place of every cell, where `jitter` in [0,1) says."""
        size = 2 * BOUND / CELLS
        index = torch.arange(CELLS, device=jitter.device, dtype=jitter.dtype)
        z, y, x = torch.meshgrid(index, index, index, indexing="ij")
        corners = torch.stack([x, y, z], dim=-1).reshape(-1, 3)
        points = (corners + jitter) * size - BOUND
        seen = torch.cat([field.density(planes, part) for part in points.split(2**16)])
        torch.maximum(self.density * FADE, seen.view_as(self.density), out=self.density)

    def filled(self) -> Tensor:
        """Return [CELLS,CELLS,CELLS] bool: where samples are taken, a cell more on every side."""
        dense = self.density > self.density.mean().clamp_max(MOST_EMPTY)
        return F.max_pool3d(dense[None, None].float(), 3, 1, 1)[0, 0] > 0


def _inside(filled: Tensor, points: Tensor) -> Tensor:  # [...,3] -> [...] bool
    cells = ((points + BOUND) * (CELLS / (2 * BOUND))).long().clamp_(0, CELLS - 1)
    return filled[cells[..., 2], cells[..., 1], cells[..., 0]]


@dataclass(frozen=True)
class Look:
    """How the field is lit."""

    shading: Shading = "albedo"
    ambient: float = 1.0
    light: Tensor | None = None  # [M,3], direction to the light, of every ray
    with_normals: bool = False  # whether normals are wanted, whatever the shading


@dataclass(frozen=True)
class Marched:
    """M rays with S samples each; K of all samples show something."""

    colour: Tensor  # [M,3], before anything is put behind
    alpha: Tensor  # [M]
    depth: Tensor  # [M], field units; the far end where a ray meets nothing
    weights: Tensor  # [M,S]
    shown: Tensor  # [K], index into the M S samples
    normal: Tensor | None  # [K,3]


def march(
    field: Field,
    planes: FoldedPlanes,
    filled: Tensor,  # [CELLS,CELLS,CELLS] bool
    rays: Rays,  # one view of M rays
    samples: int,  # S
    look: Look,
    jitter: Tensor | float = 0.5,  # [M,S] in [0,1): place inside each of the even stretches
) -> Marched:
    """Return what the rays see of the field, with gradients."""
    near, far, hit = (x[0] for x in box_limits(rays, 2 * BOUND))
    near = near.clamp_min(NEAREST)
    step = ((far - near) / samples).clamp_min(0) * hit
    even = torch.arange(samples, device=step.device, dtype=step.dtype)
    depths = near[:, None] + (even + jitter) * step[:, None]  # [M,S]
    points = rays.origins[0][:, None] + depths[..., None] * rays.directions[0][:, None]
    kept = _worth_it(field, planes, filled, points, step)
    where = kept.flatten().nonzero()[:, 0]
    density, albedo = field.decode(planes, points.reshape(-1, 3)[where])
    weights = _weights(_spread(density, where, kept.shape), step)  # [M,S]
    flat = weights.flatten()
    strong = flat.detach()[where] > LEAST_WEIGHT
    shown = where[strong]
    normal = None
    if look.with_normals or look.shading != "albedo":
        at = points.reshape(-1, 3)[shown]
        normal = normals(lambda p: field.density(planes, p), at)
    owner = shown // samples
    light = None if look.light is None else look.light[owner]
    colours = shade(look.shading, albedo[strong], normal, light, look.ambient)
    summed = torch.zeros_like(rays.origins[0]).index_add(0, owner, flat[shown, None] * colours)
    alpha = weights.sum(dim=-1)
    distance = expected_depth(weights, depths, alpha, (near, torch.maximum(near, far)))
    return Marched(summed, alpha, distance, weights, shown, normal)


@torch.no_grad()
def _worth_it(
    field: Field, planes: FoldedPlanes, filled: Tensor, points: Tensor, step: Tensor
) -> Tensor:
    """Return [M,S] bool: samples in filled cells that are not behind what is opaque."""
    inside = _inside(filled, points) & (step > 0)[:, None]
    where = inside.flatten().nonzero()[:, 0]
    density = field.density(planes, points.reshape(-1, 3)[where])
    passed = _spread(density, where, inside.shape) * step[:, None]
    before = F.pad(passed.cumsum(dim=-1)[:, :-1], (1, 0))
    return inside & (torch.exp(-before) > LEAST_PASSED)


def _spread(values: Tensor, where: Tensor, shape: torch.Size) -> Tensor:
    """Return `values` at the places `where` of a tensor of zeros."""
    return values.new_zeros(shape.numel()).index_copy(0, where, values).view(shape)


def _weights(density: Tensor, step: Tensor) -> Tensor:  # [M,S] and [M] -> [M,S]
    """Return w_i = (1 - exp(-density_i step)) prod_{j<i} exp(-density_j step)."""
    thickness = density * step[:, None]
    before = F.pad(thickness.cumsum(dim=-1)[:, :-1], (1, 0))
    return (1 - torch.exp(-thickness)) * torch.exp(-before)
