"""How rough the surface of a head is, from rendered depth (what Fig. 8c of the paper shows)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.rays import pixel_rays
from ..geometry.warps import SOLID, eroded
from ..types import CameraBatch

WINDOW = 5  # pixels, across which a smooth surface hardly bends
STEEPEST = 6.0  # times the median step between neighbours: farther apart are two surfaces


def roughness(depth: Tensor, alpha: Tensor, cameras: CameraBatch) -> Tensor:
    """Return the mean angle [V] in degrees by which normals leave the mean of those around them.

    Depth [V,1,h,h] in scene units along the ray, alpha in [0,1]. 0 is a smooth surface, however it
    bends as a whole; NaN where a view shows nothing. Edges where one part hides another are left
    out. It depends on the resolution of the depth, so compare equal ones.
    """
    size = depth.shape[-1]
    points = pixel_rays(cameras, size).at(depth.flatten(2).transpose(1, 2))
    maps = points.transpose(1, 2).unflatten(2, (size, size))  # [V,3,h,h]
    return normal_deviation(maps, alpha > SOLID)


def normal_deviation(points: Tensor, valid: Tensor) -> Tensor:
    """Return the same for a grid of points [V,3,h,w] and which of them count, bool [V,1,h,w]."""
    right = F.pad(points.diff(dim=3), (0, 1))
    down = F.pad(points.diff(dim=2), (0, 0, 0, 1))
    # differences with one neighbour, not across two: those would not see a zigzag of pixels
    normals = F.normalize(torch.linalg.cross(right, down, dim=1), dim=1)
    valid = valid & _connected(right, down, valid)
    mean = F.avg_pool2d(normals, WINDOW, 1, WINDOW // 2)
    sine = torch.linalg.cross(normals, mean, dim=1).norm(dim=1, keepdim=True)
    angle = torch.rad2deg(torch.atan2(sine, (normals * mean).sum(1, keepdim=True)))
    inner = eroded(valid, WINDOW // 2) & _within(valid)
    count = inner.sum((1, 2, 3))
    total = torch.where(inner, angle, torch.zeros_like(angle)).sum((1, 2, 3))
    return torch.where(count > 0, total / count.clamp_min(1), torch.full_like(total, torch.nan))


def _connected(right: Tensor, down: Tensor, valid: Tensor) -> Tensor:
    """Return which points lie on one surface with the next ones: no step is far too long."""
    longest = torch.maximum(right.norm(dim=1, keepdim=True), down.norm(dim=1, keepdim=True))
    usual = [
        x[v].median() if v.any() else x.new_tensor(0) for x, v in zip(longest, valid, strict=True)
    ]
    near = longest <= STEEPEST * torch.stack(usual).view(-1, 1, 1, 1)
    beside = valid & valid.roll(-1, 3) & valid.roll(-1, 2)
    return near & beside


def _within(mask: Tensor) -> Tensor:
    """Return which pixels have a whole window around them that has its neighbours."""
    far, half = torch.zeros_like(mask), WINDOW // 2
    far[..., half : mask.shape[-2] - half - 1, half : mask.shape[-1] - half - 1] = True
    return far
