"""A density lattice made fit for meshing: where a bust ends, flat cuts, hollows filled.

Fields are [N,N,N], axes (x, y, z), larger inside; a point is inside where the field is above
`level`. Positions along an axis are lattice indices, fractions allowed.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

_BUST_PART = 0.45  # of the height, from below: where shoulders are looked for
_SHOULDERS = 1.25  # shoulders are at least so much wider than the neck above them
_EDGE = 0.8  # the bust ends where the cross-section falls below this share of the shoulders'
_PINHOLE = 2  # lattice steps: gaps up to twice as wide do not open a hollow
_SLOPE = 0.5  # raw density per lattice step beside a cut


def inside_of(field: Tensor, level: float) -> np.ndarray:
    """Return the largest connected solid as booleans [N,N,N]; the outermost points are empty."""
    inside = np.zeros(field.shape, dtype=bool)
    inside[1:-1, 1:-1, 1:-1] = (field[1:-1, 1:-1, 1:-1] > level).cpu().numpy()
    labels, count = ndimage.label(inside)
    if count <= 1:
        return inside
    return labels == 1 + np.bincount(labels.ravel())[1:].argmax()


def bust_base(inside: np.ndarray) -> int | None:  # [N,N,N]
    """Return the y index of the lower edge of the shoulders, None without shoulders.

    Below it hang, if anything, remains of the neck that no picture shows.
    """
    areas = inside.sum(axis=(0, 2))
    levels = np.flatnonzero(areas)
    if levels.size == 0:
        return None
    low, high = levels[0], levels[-1]
    top = low + round((high - low) * _BUST_PART)
    widest = low + int(areas[low : top + 1].argmax())
    head = widest + int(areas[widest:].argmax())
    neck = areas[widest : max(head, top) + 1].min()
    if areas[widest] < _SHOULDERS * neck:
        return None
    return low + int(np.flatnonzero(areas[low : widest + 1] >= _EDGE * areas[widest])[0])


def cut(
    field: Tensor,  # [N,N,N]
    level: float,
    axis: int,  # 0 x, 1 y, 2 z
    position: float,  # lattice index
) -> Tensor:
    """Return the field without what lies below `position` along an axis, closed by a flat face."""
    steps = torch.arange(field.shape[axis], dtype=field.dtype) - position
    shape = [1, 1, 1]
    shape[axis] = -1
    # the minimum of two fields is the intersection of their solids
    return torch.minimum(field, (level + _SLOPE * steps).view(shape))


def without_hollows(field: Tensor, level: float, inside: np.ndarray) -> Tensor:
    """Return the field with every hollow filled, also those that open only through pinholes.

    A hollow that the lowest level cuts open counts as closed there.
    """
    sealed = ndimage.binary_closing(np.pad(inside, _PINHOLE), iterations=_PINHOLE)
    middle = slice(_PINHOLE, -_PINHOLE)
    sealed = sealed[middle, middle, middle] | inside
    base = np.flatnonzero(inside.any(axis=(0, 2)))[0]
    sealed[:, base] = ndimage.binary_fill_holes(sealed[:, base])
    hollow = ndimage.binary_fill_holes(sealed) & ~sealed
    hollow[:, base] |= sealed[:, base] & ~inside[:, base]
    # the rim of a hollow, which closing smoothed, belongs to it
    hollow |= ndimage.binary_dilation(hollow, iterations=_PINHOLE) & sealed & ~inside
    return torch.where(torch.from_numpy(hollow), field.clamp_min(level + 1.0), field)
