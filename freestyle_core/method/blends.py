"""Weighted sums of triplanes, in the whole cube or in a part of it.

The feature of a point is linear in the planes: f = P + sum of m_i D_i, with planes P and, where a
portrait is mixed by region, weights m_i in space and planes D_i (`types.Region`). So a mix of any
such portraits is one again, exactly, but for the lattice on which the weights are kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..types import Region, Triplane

MOST_REGIONS = 8  # of one portrait, as `files.portrait` reads it; each is as large as the planes


def between(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """Return the weighted sum; where one share is 1, that tensor bit by bit."""
    total: Tensor | None = None
    for tensor, share in zip(tensors, shares, strict=True):
        if share:
            part = tensor.to(tensors[0]) * share
            total = part if total is None else total + part
    assert total is not None  # shares are 1 together
    return total


def mixed_triplane(triplanes: Sequence[Triplane], shares: Sequence[float]) -> Triplane:
    """Return the weighted sum of triplanes of one size, with all their regions."""
    planes = between([t.planes for t in triplanes], shares)
    pieces = [
        Region(region.weights * share, region.planes)
        for triplane, share in zip(triplanes, shares, strict=True)
        if share
        for region in triplane.regions
    ]
    return Triplane(planes, triplanes[0].box_size, _gathered(pieces, planes))


def within_area(outside: Triplane, inside: Triplane, weights: Tensor) -> Triplane:
    """Return `inside` where the weights [N,N,N] are 1, `outside` where they are 0.

    f = A + m (B - A): with A = P + sum a_i D_i, its regions count where m leaves off, those of B
    where it holds, and the difference of the planes is a region of its own.
    """
    weights = weights.to(outside.planes)
    pieces = [
        *(_times(region, 1 - weights) for region in outside.regions),
        *(_times(region, weights) for region in inside.regions),
        Region(weights, inside.planes.to(outside.planes) - outside.planes),
    ]
    return Triplane(outside.planes, outside.box_size, _gathered(pieces, outside.planes))


def _times(region: Region, weights: Tensor) -> Region:
    """Return a region with weights times others, on the finer of the two lattices."""
    own, other = region.weights.to(weights), weights
    size = max(len(own), len(other))
    return Region(_resampled(own, size) * _resampled(other, size), region.planes)


def _resampled(weights: Tensor, size: int) -> Tensor:
    if len(weights) == size:
        return weights
    sizes = (size,) * 3
    return F.interpolate(weights[None, None], sizes, mode="trilinear", align_corners=True)[0, 0]


def _gathered(pieces: Sequence[Region], like: Tensor) -> tuple[Region, ...]:
    """Return the regions that add something, those of equal planes as one."""
    kept: list[Region] = []
    for piece in pieces:
        weights, planes = piece.weights.to(like), piece.planes.to(like)
        if not weights.any() or not planes.any():
            continue
        for index, other in enumerate(kept):
            if torch.equal(other.planes, planes):
                size = max(len(other.weights), len(weights))
                total = _resampled(other.weights, size) + _resampled(weights, size)
                kept[index] = Region(total, planes)
                break
        else:
            kept.append(Region(weights, planes))
    if len(kept) > MOST_REGIONS:
        raise InputError(
            f"the portrait would be of {len(kept)} regions, more than {MOST_REGIONS}; mix fewer "
            "portraits that are mixed by region already"
        )
    return tuple(kept)
