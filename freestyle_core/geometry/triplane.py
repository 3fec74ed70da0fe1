"""Sampling features from three planes at points in space, and from regions added to them.

EG3D's point feature is the mean over planes (x,y), (x,z) and (z,x): the last two see the same
coordinates, so `fold_planes` adds them once and halves nothing but the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..types import Region

_AXIS = {"x": 0, "y": 1, "z": 2}


@dataclass(frozen=True)
class FoldedPlanes:
    """Planes whose bilinear samples add up to the point feature; the mean's 1/3 is included."""

    planes: Tensor  # [B,Q,C,R,R], Q = number of different axis pairs
    axes: tuple[str, ...]  # Q pairs (width axis, height axis)
    box_size: float  # scene units
    regions: tuple[FoldedRegion, ...] = ()  # with B = 1 only


@dataclass(frozen=True)
class FoldedRegion:
    """Planes whose features count times a weight, ready to be sampled."""

    weights: Tensor  # [1,1,N,N,N], axes (z,y,x) as grid_sample has them
    folded: FoldedPlanes


def fold_planes(
    planes: Tensor,  # [B,P,C,R,R]
    axes: Sequence[str],  # P pairs such as "xy"
    box_size: float,
    regions: Sequence[Region] = (),
) -> FoldedPlanes:
    """Return the fewest planes that give the same mean feature at every point."""
    sums: dict[str, Tensor] = {}
    for index, pair in enumerate(axes):
        plane = planes[:, index]
        if pair[::-1] in sums:  # the same coordinates with width and height exchanged
            pair, plane = pair[::-1], plane.transpose(-1, -2)
        sums[pair] = sums[pair] + plane if pair in sums else plane
    folded = torch.stack(list(sums.values()), dim=1) / len(axes)
    added = tuple(
        FoldedRegion(
            region.weights.permute(2, 1, 0).to(folded).contiguous()[None, None],
            fold_planes(region.planes.to(folded), axes, box_size),
        )
        for region in regions
    )
    return FoldedPlanes(folded, tuple(sums), box_size, added)


def sample_folded(folded: FoldedPlanes, points: Tensor) -> Tensor:
    """Return features [B,C,N] at points [B,N,3]; one plane set may serve all batches of points.

    Bilinear between texel centres, zero outside each plane.
    """
    batch, count = points.shape[:2]
    own, _, channels = folded.planes.shape[:3]
    if own == 1 and batch > 1:
        features = sample_folded(folded, points.reshape(1, -1, 3))
        return features.view(channels, batch, count).transpose(0, 1)
    scaled = points * (2 / folded.box_size)
    total: Tensor | None = None
    for index, pair in enumerate(folded.axes):
        sampled = F.grid_sample(
            folded.planes[:, index],
            _coordinates(scaled, pair)[:, None],
            mode="bilinear",
            padding_mode="zeros",
            align_corners=False,
        )
        total = sampled if total is None else total.add_(sampled)
    assert total is not None  # there are planes
    features = total[:, :, 0]
    for region in folded.regions:
        features = _added(features, region, points)
    return features


def _added(features: Tensor, region: FoldedRegion, points: Tensor) -> Tensor:  # [1,C,N], [1,N,3]
    """Return the features with those of a region, which is sampled only where it has a weight."""
    grid = (points * (2 / region.folded.box_size))[:, :, None, None]
    # corners aligned: the lattice spans the cube, faces included. Weights go on beyond it, where
    # planes may have features too
    weights = F.grid_sample(
        region.weights, grid, mode="bilinear", padding_mode="border", align_corners=True
    ).flatten()
    if points.device.type != "cpu":  # a choice of points would have to be waited for
        return features + weights * sample_folded(region.folded, points)
    where = weights.nonzero()[:, 0]
    if not len(where):
        return features
    own = sample_folded(region.folded, points.index_select(1, where))
    return features.index_add(2, where, weights[where] * own)


def _coordinates(points: Tensor, pair: str) -> Tensor:
    """Return two coordinates [B,N,2] of points [B,N,3]: where a stride leads there, as a view.

    An index of a list would be copied to a graphics card every time, and waited for.
    """
    first, second = _AXIS[pair[0]], _AXIS[pair[1]]
    if first < second:
        return points[..., first : second + 1 : second - first]
    return torch.stack([points[..., first], points[..., second]], dim=-1)


def outside_box(points: Tensor, box_size: float) -> Tensor:
    """Return [B,N] bool: True where a point lies outside the cube."""
    return (points.abs() > box_size / 2).any(dim=-1)
