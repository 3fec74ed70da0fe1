"""Rays through pixel centres, where they meet the box, and sample depths along them.

Depth is the distance along a ray of unit direction, in scene units. Shapes: V views, M rays per
view, D samples per ray. EG3D's conventions are kept, so that its weights give its pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..types import CameraBatch


@dataclass(frozen=True)
class Rays:
    """Rays of V views, row by row from the top left pixel."""

    origins: Tensor  # [V,M,3], scene units
    directions: Tensor  # [V,M,3], unit length

    def at(self, depths: Tensor) -> Tensor:
        """Return the points [V,M*D,3] at depths [V,M,D]."""
        points = self.origins[:, :, None] + depths[..., None] * self.directions[:, :, None]
        return points.flatten(1, 2)

    def part(self, rows: slice) -> Rays:
        """Return some of every view's rays."""
        return Rays(self.origins[:, rows], self.directions[:, rows])


def pixel_rays(cameras: CameraBatch, resolution: int) -> Rays:
    """Return the ray of every pixel centre of square images of `resolution` pixels."""
    matrix, k = cameras.cam_to_world, cameras.intrinsics
    centres = (torch.arange(resolution, dtype=k.dtype, device=k.device) + 0.5) / resolution
    v, u = (c.flatten() for c in torch.meshgrid(centres, centres, indexing="ij"))
    fx, fy, skew, cx, cy = (k[:, i, j, None] for i, j in ((0, 0), (1, 1), (0, 1), (0, 2), (1, 2)))
    y = (v - cy) / fy
    x = (u - cx - skew * y) / fx
    local = torch.stack([x, y, torch.ones_like(x)], dim=-1)  # [V,M,3], OpenCV axes
    directions = local @ matrix[:, :3, :3].transpose(1, 2)
    directions = torch.nn.functional.normalize(directions, dim=-1)
    return Rays(matrix[:, None, :3, 3].expand_as(directions), directions)


def box_limits(rays: Rays, box_size: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return entry and exit depths [V,M] of the cube about the origin, and which rays hit it."""
    half = box_size / 2
    one = (-half - rays.origins) / rays.directions
    two = (half - rays.origins) / rays.directions
    entry = torch.minimum(one, two).amax(dim=-1)
    leave = torch.maximum(one, two).amin(dim=-1)
    return entry, leave, entry <= leave


def auto_limits(rays: Rays, box_size: float) -> tuple[Tensor, Tensor]:
    """Return depths [V,M] between which a ray is sampled when a config says "auto".

    Rays that miss the box get, per view, the smallest entry as start and the largest *entry* (not
    exit) as end: EG3D's behaviour.
    """
    entry, leave, hit = box_limits(rays, box_size)
    distance = rays.origins.norm(dim=-1)  # for a view that misses the box altogether
    first = entry.masked_fill(~hit, float("inf")).amin(dim=1, keepdim=True)
    last = entry.masked_fill(~hit, float("-inf")).amax(dim=1, keepdim=True)
    any_hit = hit.any(dim=1, keepdim=True)
    first = torch.where(any_hit, first, (distance - box_size).clamp_min(0))
    last = torch.where(any_hit, last, distance + box_size)
    return torch.where(hit, entry, first), torch.where(hit, leave, last)


def stratified_depths(
    start: Tensor,  # [V,M]
    end: Tensor,  # [V,M]
    u: Tensor,  # [V,M,D] or [D], in [0,1): place inside each stratum
    *,
    disparity: bool = False,  # even steps in 1/depth
) -> Tensor:
    """Return D increasing depths [V,M,D]; the last stratum begins at `end`, as in EG3D."""
    count = u.shape[-1]
    start, end = start[..., None], end[..., None]
    steps = torch.linspace(0, 1, count, dtype=start.dtype, device=start.device)
    if disparity:
        t = steps + u / (count - 1)
        return 1 / (1 / start * (1 - t) + 1 / end * t)
    length = end - start
    return start + length * steps + u * (length / (count - 1))
