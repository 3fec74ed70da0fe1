"""Where a head is: a coarse grid of what is not empty, and where each ray enters and leaves it.

Rays through nothing, and the empty stretches of the others, need no samples. Nothing is said of a
scene that fills its box, as one with a background does: every ray then keeps all of its length.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .rays import Rays
from .volume import activate_density

GRID = 48  # cells per side
GROWN = 5  # cells that count as filled around those that are, for what is still to grow
# opacity of a cell from which on it is not empty: a whole row of cells below it shows nothing
FILLED = 2e-4
PROBES = 64  # places looked at along a ray


def filled_cells(
    density: Callable[[Tensor], Tensor],  # points [1,N,3] -> raw density [1,N,1]
    box_size: float,  # scene units
    device: torch.device,
    grid: int = GRID,
    grown: int = GROWN,
) -> Tensor:
    """Return [N,N,N] bool over z, y, x: cells of the box that are not empty, grown a little."""
    cell = box_size / grid
    at = (torch.arange(grid, device=device) + 0.5) * cell - box_size / 2
    z, y, x = torch.meshgrid(at, at, at, indexing="ij")
    points = torch.stack([x, y, z], dim=-1).reshape(1, -1, 3)
    thickness = activate_density(density(points)).reshape(1, 1, grid, grid, grid) * cell
    filled = (1 - torch.exp(-thickness) > FILLED).float()
    return F.max_pool3d(filled, 2 * grown + 1, 1, grown)[0, 0] > 0


def tightened(
    rays: Rays,  # [V,M]
    start: Tensor,  # [V,M], depth of the first sample
    end: Tensor,  # [V,M], depth of the last
    filled: Tensor,  # [N,N,N] bool over z, y, x
    box_size: float,  # scene units
    *,
    outside: bool,  # whether there may be something outside the box
) -> tuple[Tensor, Tensor, Tensor]:
    """Return start and end [V,M] of the filled stretch of each ray, and which rays have one [V,M].

    A ray that meets nothing keeps its start and end.
    """
    steps = torch.linspace(0, 1, PROBES, device=start.device, dtype=start.dtype)
    hits = []
    for view in range(len(start)):  # one by one, for the memory
        depths = torch.lerp(start[view, :, None], end[view, :, None], steps)[None]
        one = Rays(rays.origins[view : view + 1], rays.directions[view : view + 1])
        hits.append(_at(filled, one.at(depths), box_size, outside).view(depths.shape[1:]))
    hit = torch.stack(hits)  # [V,M,PROBES]
    any_hit = hit.any(dim=-1)
    # a cell may begin or end anywhere between two probes
    first = (hit.float().argmax(dim=-1) - 1).clamp_min(0)
    last = (PROBES - hit.flip(-1).float().argmax(dim=-1)).clamp_max(PROBES - 1)
    near = torch.lerp(start, end, steps[first])
    far = torch.lerp(start, end, steps[last])
    return torch.where(any_hit, near, start), torch.where(any_hit, far, end), any_hit


def _at(filled: Tensor, points: Tensor, box_size: float, outside: bool) -> Tensor:  # [N] bool
    size = len(filled)
    cells = torch.floor((points[0] / box_size + 0.5) * size).long()
    inside = ((cells >= 0) & (cells < size)).all(dim=-1)
    x, y, z = cells.clamp(0, size - 1).unbind(-1)
    return torch.where(inside, filled[z, y, x], torch.full_like(inside, outside))
