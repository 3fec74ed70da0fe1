"""Which views show a point of a surface, from how steeply, and what they show there.

Shapes: V views, P points. A point is seen where it lies inside the picture, something solid is
drawn there, nothing stands in front of it, and the surface faces the camera.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ShapeError
from ..types import CameraBatch
from .warps import SOLID, TOLERANCE, seen_at

POINTS_AT_ONCE = 2**21  # of all views together


@dataclass(frozen=True)
class Sightings:
    """Points as the views see them."""

    places: Tensor  # [V,P,2], from -1 to 1 as `grid_sample` has them
    facing: Tensor  # [V,P], cosine between normal and direction to the camera; 0 where not seen

    @property
    def seen(self) -> Tensor:
        """Return whether each view shows each point, bool [V,P]."""
        return self.facing > 0

    def colors(self, images: Tensor) -> Tensor:  # [V,C,H,H] -> [V,P,C]
        """Return what pictures show at the points; where a point is not seen it means nothing."""
        grid = self.places[:, None].to(images)
        sampled = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
        return sampled[:, :, 0].transpose(1, 2)


@torch.no_grad()
def sightings(
    points: Tensor,  # [P,3], scene units
    normals: Tensor,  # [P,3], unit length, outward
    depth: Tensor,  # [V,1,h,h], scene units along the ray
    alpha: Tensor,  # [V,1,h,h], in [0,1]
    cameras: CameraBatch,  # V
    *,
    tolerance: float = TOLERANCE,  # scene units that a point may lie behind what is drawn
    solid: float = SOLID,  # least alpha where a point is drawn
) -> Sightings:
    """Return where V views see P points, and how squarely.

    Raises ShapeError for depth and alpha of other views.
    """
    if depth.shape != alpha.shape or depth.shape[:2] != (len(cameras), 1):
        raise ShapeError(
            f"sightings need depth and alpha [V,1,h,h] of {len(cameras)} cameras, got "
            f"{tuple(depth.shape)} and {tuple(alpha.shape)}"
        )
    cameras = cameras.to(points.device)
    both = torch.cat([depth, alpha], dim=1).to(points)
    places, facing = [], []
    step = max(1, POINTS_AT_ONCE // max(1, len(points)))
    for first in range(0, len(cameras), step):
        some = cameras[first : first + step]
        place, away, ahead = seen_at(some, points[None].expand(len(some), -1, -1))
        grid = 2 * place - 1
        drawn = F.grid_sample(
            both[first : first + step], grid[:, None], padding_mode="border", align_corners=False
        )[:, :, 0]
        to_camera = F.normalize(some.cam_to_world[:, None, :3, 3] - points, dim=-1)
        cosine = (to_camera * normals).sum(-1)
        seen = ahead & (grid.abs() <= 1).all(-1) & (drawn[:, 1] > solid)
        seen &= (away - drawn[:, 0] < tolerance) & (cosine > 0)
        places.append(grid)
        facing.append(torch.where(seen, cosine, torch.zeros_like(cosine)))
    return Sightings(torch.cat(places), torch.cat(facing))


def vertex_normals(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """Return each vertex' unit normal [P,3], outward, and its third of its faces' area [P]."""
    a, b, c = vertices[faces].unbind(1)
    cross = torch.linalg.cross(b - a, c - a)
    normals, area = torch.zeros_like(vertices), vertices.new_zeros(len(vertices))
    for corner in range(3):
        normals.index_add_(0, faces[:, corner], cross)
        area.index_add_(0, faces[:, corner], cross.norm(dim=1) / 6)
    return F.normalize(normals, dim=1), area
