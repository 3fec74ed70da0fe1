"""The volume rendering integral and importance sampling, as functions of depths and densities.

D samples at depths t_i with raw densities s_i bound D - 1 intervals; the mid-point rule gives
interval i the density softplus((s_i + s_{i+1}) / 2 - 1). Read `interval_weights` first.
Shapes: ... any leading ray dimensions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

DENSITY_SHIFT = 1.0  # EG3D starts training from thin fog
# exp of less than about -87 is a denormal number, on which a CPU is many times slower; far from it
# the pictures cannot tell e^-25 from nothing
_EMPTY, _OPAQUE = -30.0, 25.0
_WEIGHT_FLOOR = 0.01  # importance sampling looks a little everywhere
_PDF_EPSILON = 1e-5


def activate_density(raw: Tensor) -> Tensor:
    """Return density (per scene unit, >= 0) from the decoder's raw output."""
    return F.softplus(_at_least(_EMPTY, raw - DENSITY_SHIFT))


def _at_least(least: float, x: Tensor) -> Tensor:
    """Return clamp_min, whose gradient takes three kernels where that of a threshold takes one."""
    return F.threshold(x, least, least)


def interval_weights(depths: Tensor, raw: Tensor) -> Tensor:
    """Return how much each interval contributes [..., D-1], from depths and raw density [..., D].

    They sum to the ray's alpha.
    """
    density = activate_density((raw[..., :-1] + raw[..., 1:]) / 2)
    # alpha_i = 1 - exp(-density_i * delta_i);  w_i = alpha_i * prod_{j<i} (1 - alpha_j)
    negative = _at_least(-_OPAQUE, density * (depths[..., :-1] - depths[..., 1:]))
    alpha = 1 - torch.exp(negative)
    passed = torch.exp(_at_least(-_OPAQUE, negative.cumsum(dim=-1)))
    return alpha * torch.cat([torch.ones_like(alpha[..., :1]), passed[..., :-1]], dim=-1)


def sample_weights(weights: Tensor) -> Tensor:
    """Return weights of the samples [..., D] from those of the intervals [..., D-1].

    An interval's colour is the mean of its two ends:
    sum_i w_i (c_i + c_{i+1}) / 2 = sum_i c_i (w_{i-1} + w_i) / 2.
    """
    return (F.pad(weights, (1, 0)) + F.pad(weights, (0, 1))) / 2


def merged_weights(depths: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
    """Return sample weights [..., S], in the order given, and alpha [...] of unsorted samples.

    Only depths and densities are sorted; the weights go back to where their samples are.
    """
    ordered, order = depths.sort(dim=-1)
    weights = interval_weights(ordered, raw.gather(-1, order))
    placed = torch.empty_like(depths).scatter_(-1, order, sample_weights(weights))
    return placed, weights.sum(dim=-1)


def expected_depth(
    weights: Tensor,  # sample weights [...,S]
    depths: Tensor,  # [...,S]
    alpha: Tensor,  # [...]
    limits: tuple[Tensor, Tensor],  # smallest and largest depth, broadcastable to [...]
) -> Tensor:
    """Return the mean depth [...] under the weights; a ray that meets nothing gets the largest."""
    near, far = limits
    hit = alpha > 0
    mean = (weights * depths).sum(dim=-1) / torch.where(hit, alpha, torch.ones_like(alpha))
    mean = torch.where(hit, mean, torch.as_tensor(far, dtype=mean.dtype).expand_as(mean))
    return torch.maximum(torch.minimum(mean, far), near)


def smoothed_weights(weights: Tensor) -> Tensor:  # [...,D-1]
    """Return interval weights blurred as in MipNeRF: max, then mean of neighbours, plus a floor."""
    flat = weights.reshape(-1, 1, weights.shape[-1])
    flat = F.max_pool1d(flat, 2, 1, padding=1)
    return F.avg_pool1d(flat, 2, 1).reshape(weights.shape) + _WEIGHT_FLOOR


@torch.no_grad()
def importance_depths(
    depths: Tensor,  # [...,D], coarse samples
    weights: Tensor,  # [...,D-1], interval weights
    u: Tensor,  # [...,K] or [K], in [0,1)
) -> Tensor:
    """Return K depths [...,K] drawn where the weights are; no gradient flows through them.

    EG3D's bins: the weight of interval i+1 fills the bin between mid-points i and i+1, so the last
    mid-point is never reached. Changing this changes its pictures.
    """
    middles = (depths[..., :-1] + depths[..., 1:]) / 2  # [...,D-1]
    inner = smoothed_weights(weights)[..., 1:-1] + _PDF_EPSILON  # [...,D-3]
    cdf = torch.cumsum(inner / inner.sum(dim=-1, keepdim=True), dim=-1)
    cdf = F.pad(cdf, (1, 0)).contiguous()  # [...,D-2]
    u = u.expand(*cdf.shape[:-1], u.shape[-1]).contiguous()
    above = torch.searchsorted(cdf, u, right=True)
    below = (above - 1).clamp_min(0)
    above = above.clamp_max(cdf.shape[-1] - 1)
    low, high = cdf.gather(-1, below), cdf.gather(-1, above)
    left, right = middles.gather(-1, below), middles.gather(-1, above)
    step = high - low
    step = torch.where(step < _PDF_EPSILON, torch.ones_like(step), step)
    return left + (u - low) / step * (right - left)
