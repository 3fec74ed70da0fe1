"""How much views of one thing disagree, once each is warped to where another stands.

Short-range and long-range consistency of the survey "Advances in 3D Neural Stylization",
with our own depth in place of optical flow. Pairs come with their opposites, so all is symmetric.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..geometry.warps import Warps, warped

PAIRS_AT_ONCE = 8
LEAST_SHARE = 0.01  # of a picture, that two views must both see for the pair to count


@dataclass(frozen=True)
class WarpErrors:
    """Errors of P ordered pairs; NaN where the two views share too little."""

    rmse: Tensor  # [P], over what is seen: 0 equal, 1 black against white
    perceptual: Tensor  # [P], of the distance given, outside of what is seen both black
    share: Tensor  # [P], of the picture that is seen in both

    def mean(self) -> tuple[float, float]:
        """Return mean RMSE and mean perceptual distance of the pairs that count."""
        return float(self.rmse.nanmean()), float(self.perceptual.nanmean())


@torch.no_grad()
def warp_errors(
    images: Tensor,  # [V,3,H,H], in [0,1]
    warps: Warps,
    distance: Callable[[Tensor, Tensor], Tensor] | None,  # None: RMSE alone
) -> WarpErrors:
    """Return the errors between each pair's view i and its view j warped there.

    rmse = sqrt(sum V |x_i - x|^2 / (3 sum V)), perceptual = distance(V x_i, V x).
    """
    rmse: list[Tensor] = []
    perceptual: list[Tensor] = []
    for part in parts(warps):
        here = images[part.pairs[:, 0].to(images.device)]
        there = warped(images, part).clamp(0, 1)
        seen = part.seen.to(here)
        rmse.append(masked_rmse(here, there, seen))
        if distance is not None:
            perceptual.append(distance(here * seen, there * seen))
    share = warps.seen.float().mean((1, 2, 3))
    nan = torch.full_like(share, torch.nan)
    enough = share >= LEAST_SHARE
    return WarpErrors(
        torch.where(enough, torch.cat(rmse), nan),
        torch.where(enough, torch.cat(perceptual), nan) if perceptual else nan,
        share,
    )


@torch.no_grad()
def feature_error(features: Tensor, warps: Warps) -> float:
    """Return the mean over pairs of 1 - cosine of warped features, where both are seen.

    Features are [V,C,H,H] at the size of the warps. 0 is the same everywhere, 1 unrelated: MEt3R
    (Asim et al. 2025) with the geometry known in place of guessed, and what is hidden left out.
    """
    found: list[Tensor] = []
    for part in parts(warps):
        here = features[part.pairs[:, 0].to(features.device)]
        there = warped(features, part, mode="bilinear")
        off = 1 - torch.cosine_similarity(here, there, dim=1)
        seen = part.seen[:, 0].to(off)
        share = seen.mean((1, 2))
        error = (off * seen).sum((1, 2)) / seen.sum((1, 2)).clamp_min(1)
        found.append(torch.where(share >= LEAST_SHARE, error, torch.full_like(error, torch.nan)))
    return float(torch.cat(found).nanmean())


def masked_rmse(a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
    """Return the root mean square difference [P] of [P,C,H,W] where the mask [P,1,H,W] is 1."""
    square = ((a - b).square() * mask).sum((1, 2, 3))
    return (square / (a.shape[1] * mask.sum((1, 2, 3)).clamp_min(1))).sqrt()


def parts(warps: Warps) -> list[Warps]:
    """Return the pairs a few at a time."""
    starts = range(0, len(warps), PAIRS_AT_ONCE)
    return [warps.part(slice(first, first + PAIRS_AT_ONCE)) for first in starts]
