"""Which views of one head do not fit the others, by their warps alone. Read `view_disagreement`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.warps import TOLERANCE, view_angles, warped, warps_between
from ..types import CameraBatch

NEIGHBOURS = 8  # views that each is compared with
LEAST_SEEN = 3  # neighbours that show a point: the median of fewer may be the wrong one
BLUR = 3  # pixels of depth: what differs by less is texture, which no two edits share
LIMIT = 2.5  # deviations from the usual disagreement, from which a view does not fit
LEAST_SPREAD = 0.1  # of the usual disagreement: views that all agree must not be told apart by dust
_MAD = 1.4826  # of a normal distribution: standard deviation / median absolute deviation


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
    """Return by how many times the usual amount each view [V] differs from what is around it.

    The views nearest in angle are warped to where a view stands; the median of those that show a
    point is what they agree on, and one wrong neighbour does not move it. The view's difference
    from it counts, blurred, at the resolution of the depth, over what three neighbours show. Views
    from aside differ more than those in front, so it is divided by the median difference of the
    neighbours: 1 is a view as good as those around it. A view that shares nothing gets 1.
    """
    size, device = depth.shape[-1], depth.device
    small = F.interpolate(images.to(device), size=(size, size), mode="area")
    near = _nearest(cameras, neighbours)
    found = torch.full((len(cameras),), torch.nan)
    for view, others in enumerate(near):
        pairs = torch.stack([torch.full_like(others, view), others], dim=1)
        warps = warps_between(depth, alpha, cameras, pairs, size, tolerance=tolerance)
        moved = torch.where(warps.seen, warped(small, warps, mode="bilinear"), torch.nan)
        known = warps.seen.sum(0) >= min(LEAST_SEEN, len(others))
        agreed = torch.where(known, moved.nanmedian(0).values, small[view])
        found[view] = _blurred_difference(small[view] - agreed, known)
    around = found[near].nanmedian(dim=1).values
    relative = found / around.clamp_min(1e-6)
    return torch.where(relative.isfinite(), relative, torch.ones_like(relative)).to(device)


def view_weights(disagreement: Tensor, *, limit: float = LIMIT) -> Tensor:
    """Return how much each view [V] may still count: 1 as it fits, falling to 0 as it does not.

    Up to `limit` deviations above the median a view counts in full; beyond, by the fourth power of
    limit / deviations: a sixteenth at twice the limit.
    """
    return (limit / deviations(disagreement).clamp_min(limit)) ** 4


def deviations(disagreement: Tensor) -> Tensor:
    """Return how many robust standard deviations each view [V] lies above the median."""
    middle = disagreement.median()
    spread = _MAD * (disagreement - middle).abs().median()
    return (disagreement - middle) / torch.maximum(spread, LEAST_SPREAD * middle).clamp_min(1e-12)


def _nearest(cameras: CameraBatch, neighbours: int) -> Tensor:  # [V,N]
    angles = view_angles(cameras).cpu()
    angles.fill_diagonal_(torch.inf)
    return angles.topk(min(neighbours, len(cameras) - 1), dim=1, largest=False).indices


def _blurred_difference(difference: Tensor, known: Tensor) -> Tensor:  # [3,h,w], bool [1,h,w]
    """Return the mean absolute value, where known, of the difference averaged over a window."""
    if not bool(known.any()):
        return difference.new_tensor(torch.nan)
    weight = known.to(difference)

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x[None], BLUR, 1, BLUR // 2)[0]

    smooth = mean(difference * weight) / mean(weight).clamp_min(1 / BLUR**2)
    return (smooth.abs() * weight).sum() / (len(difference) * weight.sum())
