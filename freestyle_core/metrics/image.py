"""Distances between images that need no network."""

from __future__ import annotations

import torch
from torch import Tensor

_LEAST_ERROR = 1e-10  # mean square: equal images have 100 dB


def psnr(a: Tensor, b: Tensor) -> Tensor:  # [N,C,H,W] twice, in [0,1] -> [N]
    """Return the peak signal-to-noise ratio in dB, at most 100: -10 log10 of the mean square."""
    return -10 * torch.log10((a - b).square().mean((1, 2, 3)).clamp_min(_LEAST_ERROR))
