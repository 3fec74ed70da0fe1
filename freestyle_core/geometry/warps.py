"""One view brought to where another stands, by the known depth of what both see.

A pixel of view i is a point X = o_i + D_i d_i on its ray; view j shows X at p'. X is seen in both
where i has something solid there and j's own depth at p' agrees with how far X is from j: else
something stands in front of it. Read `warps_between`, then `warped`.
Shapes: V views, P ordered pairs, H x H pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError, ShapeError
from ..types import CameraBatch
from .rays import pixel_rays

SOLID = 0.5  # alpha from which a pixel has a depth of its own
TOLERANCE = 0.027  # scene units, a hundredth of the distance of EG3D's cameras
LEAST_DEG = 0.5  # apart: nearer views are one view twice, as the front in a grid of odd size
SLACK_DEG = 2.0  # pairs so much farther from an angle than the nearest one still stand for it


@dataclass(frozen=True)
class Warps:
    """Where views are seen from other views."""

    pairs: Tensor  # [P,2], int64: (i, j) brings view j to where view i stands
    grid: Tensor  # [P,H,H,2], for each pixel of i its place in j, from -1 to 1 as `grid_sample`
    seen: Tensor  # [P,1,H,H], bool: the pixel of i is solid and not hidden from j

    def __len__(self) -> int:
        return self.pairs.shape[0]

    def part(self, rows: slice) -> Warps:
        """Return some of the pairs."""
        return Warps(self.pairs[rows], self.grid[rows], self.seen[rows])


def warps_between(
    depth: Tensor,  # [V,1,h,h], scene units along the ray
    alpha: Tensor,  # [V,1,h,h], in [0,1]
    cameras: CameraBatch,  # V
    pairs: Tensor,  # [P,2], int64
    size: int,  # H, pixels of the pictures to warp
    *,
    tolerance: float = TOLERANCE,  # scene units that two depths of one point may differ
) -> Warps:
    """Return the warps of some pairs of views; the edge of what is seen is one pixel narrower.

    That last pixel would mix what is seen with what is not.
    """
    if depth.shape != alpha.shape or depth.shape[:2] != (len(cameras), 1):
        raise ShapeError(
            f"warps need depth and alpha [V,1,h,h] of {len(cameras)} cameras, got "
            f"{tuple(depth.shape)} and {tuple(alpha.shape)}"
        )
    here, there = pairs.to(depth.device).unbind(1)
    cameras = cameras.to(depth.device)
    distance = _resized(depth, size)[here].flatten(2).transpose(1, 2)  # [P,M,1]
    points = pixel_rays(cameras[here], size).at(distance)
    places, away, in_front = seen_at(cameras[there], points)
    grid = (2 * places - 1).unflatten(1, (size, size))
    inside = (grid.abs() <= 1).all(dim=-1)[:, None] & in_front.unflatten(1, (size, size))[:, None]
    both = _sampled(torch.cat([depth, alpha], dim=1)[there], grid, "bilinear")
    agrees = (away.unflatten(1, (size, size))[:, None] - both[:, :1]).abs() < tolerance
    solid = (_resized(alpha, size)[here] > SOLID) & (both[:, 1:] > SOLID)
    return Warps(pairs, grid, eroded(inside & agrees & solid))


def seen_at(cameras: CameraBatch, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return where V cameras see points [V,M,3].

    That is the place [V,M,2] in a picture whose sides are 1 long, from its top left, the distance
    [V,M] in scene units, and whether the point is in front of the camera, bool [V,M].
    """
    matrix, k = cameras.cam_to_world, cameras.intrinsics
    from_camera = points - matrix[:, None, :3, 3]
    x, y, z = (from_camera @ matrix[:, :3, :3]).unbind(-1)  # OpenCV axes
    ahead = z > 0
    z = torch.where(ahead, z, torch.ones_like(z))
    x, y = x / z, y / z
    u = k[:, 0, 0, None] * x + k[:, 0, 1, None] * y + k[:, 0, 2, None]
    v = k[:, 1, 1, None] * y + k[:, 1, 2, None]
    return torch.stack([u, v], dim=-1), from_camera.norm(dim=-1), ahead


def warped(
    images: Tensor,  # [V,C,H,H]
    warps: Warps,
    *,
    mode: str = "bicubic",  # of `grid_sample`; bilinear loses more of fine texture
) -> Tensor:
    """Return each pair's view j as view i would see it, [P,C,H,H]; unseen pixels mean nothing."""
    return _sampled(images[warps.pairs[:, 1].to(images.device)], warps.grid, mode)


def eroded(mask: Tensor, pixels: int = 1) -> Tensor:  # bool [...,C,H,W]
    """Return the mask without the pixels that lie so near to its edge; the picture's is none."""
    side = 2 * pixels + 1
    return F.max_pool2d((~mask).float(), side, 1, pixels) == 0


def view_angles(cameras: CameraBatch) -> Tensor:
    """Return the angle [V,V] in degrees between the directions in which the cameras look."""
    forward = cameras.cam_to_world[:, :3, 2].double()
    # by the chord: the arc cosine of a number near 1 has no digits left
    chord = (forward[:, None] - forward[None]).norm(dim=-1)
    return torch.rad2deg(2 * torch.asin((chord / 2).clamp(max=1)))


def pairs_at(cameras: CameraBatch, degrees: float, most: int = 0) -> Tensor:
    """Return ordered pairs [P,2] of views about `degrees` apart, each with its opposite.

    They are those within SLACK_DEG of the nearest there are: a grid of cameras need not have the
    angle itself; a view twice is no pair. With `most`, at most so many, evenly chosen.
    """
    angles = view_angles(cameras)
    upper = (angles > LEAST_DEG).triu(1)
    if not upper.any():
        raise InputError(f"pairs need at least 2 views from different sides, got {len(cameras)}")
    off = (angles - degrees).abs()
    # a thousandth of a degree for rounding: cameras are stored in single precision
    chosen = (upper & (off <= off[upper].min() + SLACK_DEG + 1e-3)).nonzero()
    if 0 < most // 2 < len(chosen):
        chosen = chosen[torch.linspace(0, len(chosen) - 1, most // 2).round().long()]
    return torch.cat([chosen, chosen.flip(1)])


def _resized(maps: Tensor, size: int) -> Tensor:
    return F.interpolate(maps, size=(size, size), mode="bilinear", align_corners=False)


def _sampled(images: Tensor, grid: Tensor, mode: str) -> Tensor:
    return F.grid_sample(images, grid, mode=mode, padding_mode="border", align_corners=False)
