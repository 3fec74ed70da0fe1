"""Distances between images, and what can be said of one image, that need no network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_LEAST_ERROR = 1e-10  # mean square: equal images have 100 dB
_GREY = (0.299, 0.587, 0.114)  # Rec. 601
_LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))
BRIGHT, PURE = 0.98, 0.95  # a channel, and HSV saturation, from which a pixel counts as clipped


def psnr(a: Tensor, b: Tensor) -> Tensor:  # [N,C,H,W] twice, in [0,1] -> [N]
    """Return the peak signal-to-noise ratio in dB, at most 100: -10 log10 of the mean square."""
    return -10 * torch.log10((a - b).square().mean((1, 2, 3)).clamp_min(_LEAST_ERROR))


def sharpness(images: Tensor) -> Tensor:  # [N,3,H,W] in [0,1] -> [N]
    """Return the variance of the Laplacian of the grey picture, in 8-bit levels squared.

    The usual focus measure: grey from 0 to 255, the four-neighbour kernel, no pixel beyond the
    edge. It grows with the contrast and falls with the size of a picture, so compare like with
    like.
    """
    weights = images.new_tensor(_GREY).view(1, 3, 1, 1)
    grey = 255 * (images * weights).sum(1, keepdim=True)
    edges = F.conv2d(grey, images.new_tensor(_LAPLACIAN)[None, None])
    return edges.flatten(1).var(dim=1, unbiased=False)


def clipped_share(images: Tensor, mask: Tensor) -> Tensor:
    """Return how much of what `mask` covers is burnt out or of one pure colour, [N] in [0,1].

    Images are [N,3,H,W] in [0,1], the mask is bool [N,1,H,W]. A pixel counts where a channel is
    above BRIGHT or its HSV saturation above PURE; black has none. Strong guidance drives an edit
    there.
    """
    high, low = images.amax(1, keepdim=True), images.amin(1, keepdim=True)
    saturation = (high - low) / torch.where(high > 0, high, torch.ones_like(high))
    clipped = ((high > BRIGHT) | (saturation > PURE)) & mask
    return clipped.sum((1, 2, 3)) / mask.sum((1, 2, 3)).clamp_min(1)
