"""Which views of one head do not fit the others, by their warps alone. Read `view_disagreement`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.warps import TOLERANCE, Warps, nearest_pairs, view_angles, warped, warps_between
from ..types import CameraBatch
from .warps import LEAST_SHARE, masked_rmse, parts

NEIGHBOURS = 8  # views that each is compared with
LIMIT = 3.5  # deviations from the usual disagreement, from which a view does not fit
_MAD = 1.4826  # of a normal distribution: standard deviation / median absolute deviation
LEAST_SPREAD = 0.1  # of the usual disagreement: views that all agree must not be told apart by dust


@torch.no_grad()
def view_disagreement(
    images: Tensor,  # [V,3,H,H], in [0,1]
    depth: Tensor,  # [V,1,h,h], scene units along the ray, of the head they were edited from
    alpha: Tensor,  # [V,1,h,h], in [0,1]
    cameras: CameraBatch,  # V
    *,
    neighbours: int = NEIGHBOURS,
    tolerance: float = TOLERANCE,  # scene units
) -> Tensor:
    """Return by how many times the usual amount each view [V] differs from its neighbours.

    Each is compared with the views nearest in angle, at the resolution of the depth. Two views
    differ more the farther apart they are, so a pair's RMSE is divided by what pairs of its angle
    usually have; the median over the neighbours counts, which one wrong neighbour does not move.
    1 is a view as good as the others. A view that shares nothing with any other gets 1.
    """
    size, device = depth.shape[-1], depth.device
    small = F.interpolate(images.to(device), size=(size, size), mode="area")
    pairs = nearest_pairs(cameras, neighbours).cpu()
    errors, share = [], []
    for part in parts(Warps(pairs, torch.empty(len(pairs), 0), torch.empty(len(pairs), 0))):
        own = warps_between(depth, alpha, cameras, part.pairs, size, tolerance=tolerance)
        seen = own.seen.to(small)
        here = small[own.pairs[:, 0].to(device)]
        errors.append(masked_rmse(here, warped(small, own, mode="bilinear"), seen))
        share.append(seen.mean((1, 2, 3)))
    counted = (torch.cat(share) >= LEAST_SHARE).cpu()
    relative = _relative(torch.cat(errors).cpu(), view_angles(cameras).cpu(), pairs, counted)
    found = _medians(relative, pairs, counted, len(cameras))
    found = found / found.nanmedian().clamp_min(1e-6)
    return torch.where(found.isnan(), torch.ones_like(found), found).to(device)


def view_weights(disagreement: Tensor, *, limit: float = LIMIT) -> Tensor:
    """Return how much each view [V] may still count: 1 as it fits, falling to 0 as it does not.

    Up to `limit` deviations above the median a view counts in full; beyond, by the square of
    limit / deviations (as in iteratively reweighted least squares with a Cauchy-like tail).
    """
    off = deviations(disagreement)
    return torch.where(off <= limit, torch.ones_like(off), (limit / off.clamp_min(limit)).square())


def deviations(disagreement: Tensor) -> Tensor:
    """Return how many robust standard deviations each view [V] lies above the median."""
    middle = disagreement.median()
    spread = _MAD * (disagreement - middle).abs().median()
    return (disagreement - middle) / torch.maximum(spread, LEAST_SPREAD * middle).clamp_min(1e-12)


def _relative(errors: Tensor, angles: Tensor, pairs: Tensor, counted: Tensor) -> Tensor:
    """Return the errors [P] divided by what pairs of that angle usually have.

    That is a straight line, through the medians of the nearer and of the farther half.
    """
    apart = angles[pairs[:, 0], pairs[:, 1]].to(errors)
    if not bool(counted.any()):
        return torch.ones_like(errors)
    middle = apart[counted].median()
    near, far = counted & (apart <= middle), counted & (apart > middle)
    level = errors[counted].median()
    if not bool(far.any()):
        return errors / level.clamp_min(1e-6)
    rise = errors[far].median() - errors[near].median()
    run = (apart[far].median() - apart[near].median()).clamp_min(1e-3)
    line = errors[near].median() + rise / run * (apart - apart[near].median())
    return errors / torch.maximum(line, level / 4).clamp_min(1e-6)


def _medians(values: Tensor, pairs: Tensor, counted: Tensor, views: int) -> Tensor:
    found = torch.full((views,), torch.nan)
    for view in range(views):
        own = values[(pairs == view).any(1) & counted]
        if len(own):
            found[view] = own.median()
    return found
