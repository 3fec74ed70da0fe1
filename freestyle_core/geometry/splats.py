"""Gaussian splats seen by cameras: projection and sorted alpha compositing in plain torch.

A splat is a 3D Gaussian with covariance R diag(s^2) R^T. Seen from a camera it is a 2D Gaussian of
covariance J W R diag(s^2) R^T W^T J^T + 0.3 I, in pixels, with J the derivative of the projection
("3D Gaussian Splatting", Kerbl et al. 2023, eq. 5 and its code's low-pass filter). A pixel blends
what covers it from front to back, C = sum_i c_i a_i prod_{j<i} (1 - a_j) (eq. 3).
Shapes: P splats, K fragments (a splat in a pixel), H x H pixels. Read `render_splats`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import ShapeError
from ..types import CameraBatch, Splats

LOW_PASS = 0.3  # pixels squared, added to what is seen: no splat is thinner than a pixel
FAINTEST = 1 / 255  # opacity of a fragment below which it is left out
MOST_OPAQUE = 0.99
LEFT = 1e-3  # of the light: what lies behind so much is left out
_AT_ONCE = 2**19  # fragments tried together, about
_WINDOWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # half sides in pixels


@dataclass(frozen=True)
class SplatView:
    """What a camera sees of splats."""

    image: Tensor  # [3,H,H], on the background given
    alpha: Tensor  # [1,H,H], in [0,1]
    most: Tensor  # [P], the largest share that a splat has in a pixel, without gradient


def render_splats(
    splats: Splats,
    camera: CameraBatch,  # one, in the unit of the splats
    size: int,  # H
    *,
    background: float | Tensor = 1.0,  # or [3,H,H]
) -> SplatView:
    """Return the picture of splats, with gradients for all of their numbers.

    Colours are not clamped. Memory grows with the fragments, about 100 bytes for each.
    Raises ShapeError for another number of cameras than one.
    """
    if len(camera) != 1:
        raise ShapeError(f"splats are rendered for one camera at a time, got {len(camera)}")
    camera = camera.to(splats.positions.device)
    flat = _project(splats, camera, size)
    index, pixel = _fragments(flat, size)
    alpha = _alpha_at(flat, index, pixel, size)
    weight = alpha * _passed(alpha, pixel)
    count = size * size
    image = weight.new_zeros(count, 3)
    image = image.index_add(0, pixel, weight[:, None] * splats.colors[index])
    covered = weight.new_zeros(count).index_add(0, pixel, weight)
    image, covered = image.T.reshape(3, size, size), covered.reshape(1, size, size)
    with torch.no_grad():
        most = weight.new_zeros(len(splats.positions))
        most.scatter_reduce_(0, index, weight.detach(), "amax")
    return SplatView(image + (1 - covered) * background, covered, most)


@dataclass(frozen=True)
class _Flat:
    """Splats on the picture."""

    centre: Tensor  # [P,2], pixels
    conic: Tensor  # [P,3], a, b and c of exp(-(a x^2 + 2 b x y + c y^2) / 2)
    radius: Tensor  # [P], pixels beyond which a fragment is too faint; 0: not seen
    depth: Tensor  # [P]
    opacity: Tensor  # [P]


def _project(splats: Splats, camera: CameraBatch, size: int) -> _Flat:
    matrix, k = camera.cam_to_world[0], camera.intrinsics[0] * size
    turned = matrix[:3, :3].T  # world to camera
    x, y, z = ((splats.positions - matrix[:3, 3]) @ turned.T).unbind(-1)
    ahead = z > 0
    z = torch.where(ahead, z, torch.ones_like(z))
    fx, fy = k[0, 0], k[1, 1]
    centre = torch.stack([fx * x / z + k[0, 1] * y / z + k[0, 2], fy * y / z + k[1, 2]], dim=-1)
    zero = torch.zeros_like(z)
    rows = [fx / z, zero, -fx * x / z**2, zero, fy / z, -fy * y / z**2]
    jacobian = torch.stack(rows, dim=-1).unflatten(-1, (2, 3))
    spread = jacobian @ turned @ (rotation_matrices(splats.rotations) * splats.scales[:, None])
    xx, yy = (spread.square().sum(-1) + LOW_PASS).unbind(-1)
    xy = (spread[:, 0] * spread[:, 1]).sum(-1)
    determinant = (xx * yy - xy.square()).clamp_min(1e-12)
    conic = torch.stack([yy, -xy, xx], dim=-1) / determinant[:, None]
    with torch.no_grad():
        middle = (xx + yy) / 2
        largest = middle + (middle.square() - determinant).clamp_min(0).sqrt()
        reach = 2 * (splats.opacities / FAINTEST).clamp_min(1e-12).log()  # squared, in deviations
        seen = ahead & (reach > 0)
        radius = torch.where(seen, (largest * reach.clamp_min(0)).sqrt(), zero)
    return _Flat(centre, conic, radius, z, splats.opacities)


@torch.no_grad()
def _fragments(flat: _Flat, size: int) -> tuple[Tensor, Tensor]:
    """Return splat [K] and pixel [K] of what can be seen, by pixel and from front to back."""
    rank = torch.empty_like(flat.depth, dtype=torch.long)
    rank[flat.depth.argsort()] = torch.arange(len(rank), device=rank.device)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    below = 0
    for half in _WINDOWS:
        last = half == _WINDOWS[-1]
        rows = ((flat.radius > below) & ((flat.radius <= half) | last)).nonzero()[:, 0]
        below = half
        found += [_window(flat, part, half, size) for part in rows.split(_AT_ONCE // half**2)]
    if not found:
        empty = rank.new_empty(0)
        return empty, empty
    index, pixel, alpha = (torch.cat(x) for x in zip(*found, strict=True))
    order = (pixel * len(rank) + rank[index]).argsort()
    index, pixel, alpha = index[order], pixel[order], alpha[order]
    kept = _passed(alpha, pixel) > LEFT
    return index[kept], pixel[kept]


def _window(flat: _Flat, rows: Tensor, half: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return splat, pixel and opacity of those fragments, within so many pixels, that are seen."""
    steps = torch.arange(-half, half + 1, device=rows.device)
    corner = flat.centre[rows].floor()
    column, row = (corner[:, i, None].long() + steps for i in (0, 1))  # [R,n]
    x, y = (at + 0.5 - flat.centre[rows, i, None] for i, at in enumerate((column, row)))
    a, b, c = (part[:, None, None] for part in flat.conic[rows].unbind(-1))
    x, y = x[:, None, :], y[:, :, None]
    power = (a * x.square() + c * y.square()) / 2 + b * x * y  # [R,n,n]
    alpha = flat.opacity[rows, None, None] * torch.exp(-power)
    across, down = ((at >= 0) & (at < size) for at in (column, row))
    seen = (alpha >= FAINTEST) & across[:, None, :] & down[:, :, None]
    where, high, wide = seen.nonzero().unbind(-1)
    pixel = row[where, high] * size + column[where, wide]
    return rows[where], pixel, alpha[seen].clamp(max=MOST_OPAQUE)


def _passed(alpha: Tensor, pixel: Tensor) -> Tensor:  # [K] each, by pixel, from front to back
    """Return how much light is left [K] before each fragment."""
    # sums over all pixels lose the digits of single precision
    passed = torch.log1p(-alpha.double())
    before = passed.cumsum(0) - passed
    new = torch.ones_like(pixel, dtype=torch.bool)
    new[1:] = pixel[1:] != pixel[:-1]
    return torch.exp(before - before[new.nonzero()[:, 0]][new.cumsum(0) - 1]).to(alpha)


def _alpha_at(flat: _Flat, index: Tensor, pixel: Tensor, size: int) -> Tensor:
    """Return the opacity [K] of fragments."""
    x = pixel % size + 0.5 - flat.centre[index, 0]
    y = pixel.div(size, rounding_mode="floor") + 0.5 - flat.centre[index, 1]
    a, b, c = flat.conic[index].unbind(-1)
    power = (a * x.square() + c * y.square()) / 2 + b * x * y
    return (flat.opacity[index] * torch.exp(-power)).clamp(max=MOST_OPAQUE)


def rotation_matrices(quaternions: Tensor) -> Tensor:  # [P,4], w x y z -> [P,3,3]
    """Return rotations; a quaternion of another length than one counts as if it had that."""
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z),
        2 * (x * y - w * z),
        2 * (x * z + w * y),
        2 * (x * y + w * z),
        1 - 2 * (x * x + z * z),
        2 * (y * z - w * x),
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        1 - 2 * (x * x + y * y),
    ]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def turning_z_to(directions: Tensor) -> Tensor:  # [P,3], unit length -> [P,4], w x y z
    """Return the shortest rotations that turn the z axis to these directions."""
    x, y, z = directions.unbind(-1)
    # half way between both; straight back, any half turn does
    w = 1 + z
    back = w < 1e-6
    zero = torch.zeros_like(w)
    raw = torch.stack([torch.where(back, zero, w), torch.where(back, zero + 1, -y), x, zero], -1)
    return torch.nn.functional.normalize(raw, dim=-1)


def upside_down(splats: Splats) -> Splats:
    """Return the splats half a turn about x: from y up to y down, and back."""
    turn = splats.positions.new_tensor([1.0, -1.0, -1.0])
    w, x, y, z = splats.rotations.unbind(-1)
    turned = torch.stack([-x, w, -z, y], dim=-1)  # the quaternion (0, 1, 0, 0) times each
    return replace(splats, positions=splats.positions * turn, rotations=turned)
