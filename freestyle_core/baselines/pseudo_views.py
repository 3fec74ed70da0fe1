"""Pseudo-views: what a picture would show from elsewhere, by the depth of a head that resembles it.

The depth map of the picture becomes a mesh, the mesh a cloud of points; points that the picture's
camera sees take its colours and are splatted into other views. Where the splats are sure the
pseudo-view shows them, elsewhere the head as the generator makes it. Read `pseudo_view`.

Shapes: S pixels per side of a picture, P points. Camera coordinates are OpenCV's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import binary_fill_holes
from torch import Tensor

from ..checks import check_numbers
from ..errors import InputError, ShapeError
from ..types import CameraBatch

BASE_PIXELS = 512  # of the pictures for which the sizes in pixels are meant
LEAST_ALPHA = 0.5  # rays that are less opaque meet nothing, and give no point
OFFSET_CHUNK = 2_000_000  # splats that are sorted at a time, about


@dataclass(frozen=True)
class PseudoViewSettings:
    """How points are made and drawn. Sizes in pixels are those for pictures of 512 pixels."""

    z_is_distance: bool = True  # as released: distances along the rays are taken for z
    upsampling: int = 2  # depth map pixels per pixel of the picture, per side
    points: float = 1.0  # surface points per pixel of the enlarged depth map
    tolerance: float = 1.0  # visible within so much behind the nearest point, over the pixels
    radius: float = 2.0  # pixels of a splat
    per_pixel: int = 16  # nearest splats that are blended
    mask_erosion: int = 3  # pixels, odd: taken from the edges of what is covered
    outline_erosion: int = 51  # pixels, odd: taken from its outline
    blur: int = 21  # pixels, odd: between splats and head

    def __post_init__(self) -> None:
        check_numbers(self)
        for name in ("upsampling", "per_pixel", "mask_erosion", "outline_erosion", "blur"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("mask_erosion", "outline_erosion", "blur"):
            if getattr(self, name) % 2 == 0:
                raise InputError(f"{name} must be odd, got {getattr(self, name)}")
        if not (self.points > 0 and self.tolerance > 0 and self.radius > 0):
            raise InputError("points, tolerance and radius must be above 0")

    def kernel(self, name: str, size: int) -> int:
        """Return a size in pixels for pictures of `size` pixels: odd, and at least 3 or as set."""
        meant = getattr(self, name)
        scaled = 2 * round((meant * size / BASE_PIXELS - 1) / 2) + 1
        return max(min(3, meant), scaled)

    def splat_radius(self, size: int) -> float:
        """Return the radius of a splat for pictures of `size` pixels, at least one pixel."""
        return max(min(1.0, self.radius), self.radius * size / BASE_PIXELS)


@dataclass(frozen=True)
class Points:
    """Coloured points of a surface."""

    places: Tensor  # [P,3], scene units
    colours: Tensor  # [P,3], in [0,1]


def visible_points(
    picture: Tensor,  # [1,3,S,S] in [0,1]
    depth: Tensor,  # [1,1,h,h], scene units along the rays
    alpha: Tensor,  # [1,1,h,h]
    camera: CameraBatch,  # one
    settings: PseudoViewSettings,
    generator: torch.Generator,  # CPU
) -> Points:
    """Return points of the surface that the picture shows, with its colours."""
    size = picture.shape[-1]
    places = surface_points(depth, alpha, camera, settings, size, generator)
    seen = is_nearest(places, camera, size, tolerance=settings.tolerance / size)
    places = places[seen]
    uv, _ = projected(places, camera)
    grid = (uv * 2 - 1)[None, None]
    colours = F.grid_sample(picture, grid, align_corners=False, padding_mode="border")
    return Points(places, colours[0, :, 0].t().contiguous())


def surface_points(
    depth: Tensor,  # [1,1,h,h]
    alpha: Tensor,  # [1,1,h,h]
    camera: CameraBatch,
    settings: PseudoViewSettings,
    size: int,  # pixels of the picture
    generator: torch.Generator,
) -> Tensor:
    """Return points [P,3] spread evenly over the mesh of the depth map."""
    side = settings.upsampling * size
    fine, cover = (
        F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)[0, 0]
        for x in (depth, alpha)
    )
    corners = unprojected(fine, camera, z_is_distance=settings.z_is_distance)  # [side,side,3]
    solid = cover > LEAST_ALPHA
    quads = [(slice(None, -1), slice(None, -1)), (slice(None, -1), slice(1, None))]
    quads += [(slice(1, None), slice(None, -1)), (slice(1, None), slice(1, None))]
    a, b, c, d = (corners[rows].reshape(-1, 3) for rows in quads)
    whole = torch.stack([solid[rows].reshape(-1) for rows in quads]).all(dim=0)
    if not bool(whole.any()):
        raise ShapeError("the head is nowhere opaque, so it has no surface; invert longer")
    triangles = torch.cat([torch.stack([a, b, c], 1)[whole], torch.stack([d, c, b], 1)[whole]])
    edges = triangles[:, 1:] - triangles[:, :1]
    area = torch.linalg.cross(edges[:, 0], edges[:, 1]).norm(dim=-1)
    count = max(1, round(settings.points * side * side))
    # cumulative areas: `multinomial` takes at most 2^24 triangles
    ends = area.double().cumsum(0)
    u, one, two = torch.rand(3, count, generator=generator, dtype=torch.float64).to(ends)
    chosen = torch.searchsorted(ends, u * ends[-1]).clamp_max(len(area) - 1)
    # uniform in a triangle: the square root keeps points from crowding at one corner
    root = one.sqrt()
    shares = torch.stack([1 - root, root * (1 - two), root * two], dim=-1).to(triangles)
    return (shares[:, :, None] * triangles[chosen]).sum(dim=1)


def unprojected(
    depth: Tensor,  # [h,h], at pixel centres
    camera: CameraBatch,  # one
    *,
    z_is_distance: bool,
) -> Tensor:
    """Return the points [h,h,3] at depths along the rays.

    `z_is_distance` takes the depths for the coordinate along the camera's axis, as HFGI3D does: the
    surface bows away from the camera towards the corners of the picture.
    """
    side, k = depth.shape[-1], camera.intrinsics[0]
    centres = (torch.arange(side).to(depth) + 0.5) / side
    v, u = torch.meshgrid(centres, centres, indexing="ij")
    y = (v - k[1, 2]) / k[1, 1]
    x = (u - k[0, 2] - k[0, 1] * y) / k[0, 0]
    local = torch.stack([x, y, torch.ones_like(x)], dim=-1)
    if not z_is_distance:
        local = F.normalize(local, dim=-1)
    matrix = camera.cam_to_world[0]
    return (local * depth[..., None]) @ matrix[:3, :3].t() + matrix[:3, 3]


def projected(places: Tensor, camera: CameraBatch) -> tuple[Tensor, Tensor]:
    """Return where points [P,3] appear, [P,2] in shares of the picture, and their z [P]."""
    matrix, k = camera.cam_to_world[0], camera.intrinsics[0]
    local = (places - matrix[:3, 3]) @ matrix[:3, :3]
    z = local[:, 2]
    flat = local / z[:, None]
    uv = flat @ k.t()
    return uv[:, :2], z


def is_nearest(places: Tensor, camera: CameraBatch, size: int, *, tolerance: float) -> Tensor:
    """Return [P] bool: at most `tolerance` scene units behind the nearest point of its pixel.

    Points outside the picture are not seen.
    """
    uv, z = projected(places, camera)
    pixel = (uv * size).floor().long()
    inside = ((pixel >= 0) & (pixel < size)).all(dim=-1) & (z > 0)
    index = pixel[:, 1].clamp(0, size - 1) * size + pixel[:, 0].clamp(0, size - 1)
    far = torch.where(inside, z, z.new_tensor(math.inf))
    nearest = z.new_full((size * size,), math.inf).scatter_reduce(0, index, far, "amin")
    return inside & (z <= nearest[index] + tolerance)


def splatted(
    points: Points, camera: CameraBatch, size: int, radius: float, per_pixel: int
) -> tuple[Tensor, Tensor]:
    """Return a picture [3,S,S] of points as discs, nearest in front, and where it is covered [S,S].

    A disc of opacity 1 - sqrt(clamp(0.1 d^2 / r^2, 0.001, 1)) at distance d < r from its centre;
    colours are blended front to back and divided by what they cover.
    """
    uv, z = projected(points.places, camera)
    order = z.argsort()
    centre, colours = (uv * size)[order], points.colours[order]
    reach = math.ceil(radius)
    steps = torch.arange(-reach, reach + 1, device=z.device)
    offsets = torch.cartesian_prod(steps, steps)
    colour = colours.new_zeros(size * size, 3)
    passed = colours.new_ones(size * size)
    taken = torch.zeros(size * size, dtype=torch.long, device=z.device)
    chunk = max(1, OFFSET_CHUNK // len(offsets))
    for first in range(0, len(centre), chunk):  # nearest first, so chunks go front to back
        part = slice(first, first + chunk)
        pixel = centre[part].floor().long()[:, None] + offsets
        away = (pixel + 0.5 - centre[part][:, None]).square().sum(dim=-1)
        hits = (away < radius**2) & ((pixel >= 0) & (pixel < size)).all(dim=-1)
        row, _ = hits.nonzero(as_tuple=True)
        index = (pixel[..., 1] * size + pixel[..., 0])[hits]
        alpha = 1 - (0.1 * away[hits] / radius**2).clamp(1e-3, 1).sqrt()
        index, by_pixel = index.sort(stable=True)  # stable: still nearest first in each pixel
        rank = _rank(index)
        keep = rank + taken[index] < per_pixel
        index, rank, alpha = index[keep], rank[keep], alpha[by_pixel][keep]
        shown = colours[part][row[by_pixel]][keep]
        for layer in range(int(rank.max()) + 1 if len(rank) else 0):
            own = rank == layer
            at = index[own]
            colour[at] += (passed[at] * alpha[own])[:, None] * shown[own]
            passed[at] *= 1 - alpha[own]
        taken += torch.bincount(index, minlength=size * size)
    cover = 1 - passed
    picture = colour / cover.clamp_min(1e-6)[:, None]
    return picture.t().reshape(3, size, size), (taken > 0).reshape(size, size)


def _rank(index: Tensor) -> Tensor:  # [N], sorted
    """Return the place [N] of each entry among the equal ones."""
    counts = torch.bincount(index) if len(index) else index
    starts = counts.cumsum(0) - counts
    return torch.arange(len(index), device=index.device) - starts[index]


def blend_weights(covered: Tensor, settings: PseudoViewSettings) -> Tensor:  # [S,S] bool -> [S,S]
    """Return how much of the splats a pseudo-view shows, 0 to 1: all of it well inside, softly."""
    size = covered.shape[-1]
    mask = _eroded(covered.float(), settings.kernel("mask_erosion", size))
    filled: np.ndarray = binary_fill_holes(covered.cpu().numpy())
    outline = torch.from_numpy(filled).to(mask)
    outline = _eroded(outline, settings.kernel("outline_erosion", size))
    return _blurred(mask * outline, settings.kernel("blur", size))


def _eroded(mask: Tensor, side: int) -> Tensor:
    pad = F.pad(mask[None, None], (side // 2,) * 4)  # beyond the picture nothing is covered
    return -F.max_pool2d(-pad, side, 1)[0, 0]


def _blurred(mask: Tensor, side: int) -> Tensor:
    sigma = 0.3 * ((side - 1) * 0.5 - 1) + 0.8  # what OpenCV takes for a kernel of this size
    x = torch.arange(side).to(mask) - side // 2
    taps = torch.exp(-x.square() / (2 * sigma**2))
    taps = taps / taps.sum()
    padded = F.pad(mask[None, None], (side // 2,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, taps[None, None, None]), taps[None, None, :, None])[0, 0]


def pseudo_view(
    points: Points,
    camera: CameraBatch,  # one
    rendered: Tensor,  # [3,S,S], the head as the generator makes it
    settings: PseudoViewSettings,
) -> Tensor:
    """Return the picture [3,S,S] in [0,1]: splats where they are sure, the head elsewhere."""
    size = rendered.shape[-1]
    picture, covered = splatted(
        points, camera, size, settings.splat_radius(size), settings.per_pixel
    )
    weight = blend_weights(covered, settings)
    return (weight * picture + (1 - weight) * rendered).clamp(0, 1)
