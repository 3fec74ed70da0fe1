"""sRGB, in which pictures are kept, and linear light, in which meshes want their colors."""

from __future__ import annotations

import torch
from torch import Tensor


def srgb_to_linear(color: Tensor) -> Tensor:
    """Return linear light of sRGB values in [0,1] (IEC 61966-2-1)."""
    return torch.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(color: Tensor) -> Tensor:
    """Return sRGB values of linear light in [0,1] (IEC 61966-2-1)."""
    curve = 1.055 * color.clamp_min(0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(color <= 0.0031308, color * 12.92, curve)
