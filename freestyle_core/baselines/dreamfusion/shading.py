"""DreamFusion's pure formulas: the blob, light, shading, normals, and the two regularisers.

Shapes: N samples in a row, M rays, S samples a ray. Density is per field unit, the field's box goes
from -1 to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Shading = Literal["albedo", "lambertian", "textureless", "normal"]
BLOB_DENSITY, BLOB_RADIUS = 5.0, 0.2  # of the logarithm of the density; field units
NORMAL_STEP = 1e-2  # field units, of the central differences
LEAST_SHARE = 1e-5  # of a sample, in the entropy


def density_blob(points: Tensor) -> Tensor:  # [N,3] -> [N]
    """Return 5 exp(-|x|^2 / (2 0.2^2)), what the log density starts with: a ball in the middle."""
    return BLOB_DENSITY * torch.exp(-points.square().sum(dim=-1) / (2 * BLOB_RADIUS**2))


def unit(vectors: Tensor) -> Tensor:  # [...,3]
    """Return the vectors at length 1; of a vector of length 0 and of NaN, zeros."""
    length = vectors.square().sum(dim=-1, keepdim=True).clamp_min(1e-20).sqrt()
    return torch.nan_to_num(vectors / length)


def normals(
    density: Callable[[Tensor], Tensor],  # [N,3] -> [N]
    points: Tensor,  # [N,3]
) -> Tensor:
    """Return normals [N,3], away from what is dense, by central differences of the density."""
    steps = NORMAL_STEP * torch.eye(3, dtype=points.dtype, device=points.device)
    around = torch.stack([points[:, None] + steps, points[:, None] - steps])  # [2,N,3,3]
    ahead, behind = density(around.reshape(-1, 3)).view(2, len(points), 3)
    return unit(-(ahead - behind) / (2 * NORMAL_STEP))


def light_directions(origins: Tensor, draw: Tensor) -> Tensor:  # [M,3] and [3] -> [M,3]
    """Return where the light comes from: from the camera, moved by one normal draw."""
    return unit(origins + draw)


def shade(
    kind: Shading,
    albedo: Tensor,  # [N,3], in [0,1]
    normal: Tensor | None,  # [N,3]; None where `kind` is albedo
    light: Tensor | None,  # [N,3], directions to the light
    ambient: float,  # share of the light that comes from everywhere
) -> Tensor:
    """Return the colours [N,3]; lambertian is albedo (a + (1 - a) max(0, n l))."""
    if kind == "albedo":
        return albedo
    assert normal is not None and light is not None
    if kind == "normal":
        return (normal + 1) / 2
    shine = (normal * light).sum(dim=-1, keepdim=True).clamp_min(0)
    lit = ambient + (1 - ambient) * shine
    return lit.expand_as(albedo) if kind == "textureless" else albedo * lit


def entropy(weights: Tensor) -> Tensor:  # [M,S]
    """Return the mean of -w log2 w - (1 - w) log2(1 - w): 0 where a sample is all or nothing."""
    w = weights.clamp(LEAST_SHARE, 1 - LEAST_SHARE)
    return (-w * torch.log2(w) - (1 - w) * torch.log2(1 - w)).mean()


def entropy_ramp(step: int, steps: int) -> float:
    """Return how much of the entropy's weight counts at `step`: all from half of the steps on."""
    return min(1.0, 2 * step / steps)


def orientation(
    weights: Tensor,  # [N], of samples
    normal: Tensor,  # [N,3]
    directions: Tensor,  # [N,3], from the camera on
    rays: int,  # M, to which the samples belong
) -> Tensor:
    """Return the mean over rays of sum w max(0, n d)^2: what is seen must face the camera."""
    away = F.relu((normal * directions).sum(dim=-1))
    return (weights.detach() * away.square()).sum() / rays
