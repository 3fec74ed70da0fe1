"""Gaussian noise that sticks to a surface: views of one head get the same noise where they see the
same point, and every view by itself is white noise of variance one.

Space is divided into small cubes, and each cube has a number of its own per channel, made of its
position and the seed alone. The pixel of a view gathers the cubes whose surface it shows,

    n_p = sum_k sqrt(a_k) g_k / sqrt(sum_k a_k),

with g_k the number of cube k and a_k how much of the pixel it fills. A cube that lies in several
pixels counts only where it fills most, so no two pixels of a view share one and n_p are independent
and normal, whatever the surface is (compare "How I Warped Your Noise", Chang et al. 2024, which
moves a fine noise with the optical flow). Where nothing is solid, the noise is that of the screen.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import ndtri
from torch import Tensor

from ..errors import ShapeError
from ..types import CameraBatch
from .rays import pixel_rays
from .warps import SOLID

FINE = 8  # samples of the surface along each side of a pixel
CELLS = 1.5  # cubes along each side of a pixel: views agree best, see docs/editing.md
_HALF = 2**20  # cubes to each side of the origin, along an axis
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))  # of splitmix64
_STEP = np.uint64(0x9E3779B97F4A7C15)


@torch.no_grad()
def surface_noise(
    depth: Tensor,  # [V,1,h,h], scene units along the ray, of the head
    alpha: Tensor,  # [V,1,h,h], in [0,1]
    cameras: CameraBatch,  # V
    screen: Tensor,  # [1,C,H,H], standard normal: of what shows no surface
    seed: int,  # 32 bits
    *,
    cells: float = CELLS,
) -> Tensor:
    """Return the noise [V,C,H,H] of each view, float32 on the CPU.

    Views are computed one by one in whole numbers and double precision, so that a view has the same
    noise in any batch; the depth alone may bring rounding from a device.
    Raises ShapeError for depth and alpha of other views or shapes.
    """
    if depth.shape != alpha.shape or depth.shape[:2] != (len(cameras), 1):
        raise ShapeError(
            f"noise on a surface needs depth and alpha [V,1,h,h] of {len(cameras)} cameras, got "
            f"{tuple(depth.shape)} and {tuple(alpha.shape)}"
        )
    if screen.ndim != 4 or len(screen) != 1 or screen.shape[2] != screen.shape[3]:
        raise ShapeError(f"the screen's noise must be [1,C,H,H], got {tuple(screen.shape)}")
    side = screen.shape[-1]
    depth, alpha, cameras = depth.float().cpu(), alpha.float().cpu(), cameras.to("cpu")
    edge = _cell_size(cameras, side, cells)
    flat = screen[0].double().cpu().flatten(1).numpy()
    views = [
        _of_view(depth[[view]], alpha[[view]], cameras[view], flat, side, edge, seed)
        for view in range(len(cameras))
    ]
    return torch.from_numpy(np.stack(views)).float().unflatten(-1, (side, side))


def _cell_size(cameras: CameraBatch, side: int, cells: float) -> float:
    """Return the side of a cube in scene units: a share of what a pixel shows near the pivot."""
    distance = float(cameras.cam_to_world[0, :3, 3].norm())
    return distance / float(cameras.intrinsics[0, 0, 0]) / side / cells


def _of_view(
    depth: Tensor,  # [1,1,h,h]
    alpha: Tensor,
    camera: CameraBatch,
    screen: np.ndarray,  # [C,H*H]
    side: int,
    edge: float,
    seed: int,
) -> np.ndarray:  # [C,H*H]
    fine = side * FINE
    depth, alpha = (
        F.interpolate(x, size=(fine, fine), mode="bilinear", align_corners=False)
        for x in (depth, alpha)
    )
    points = pixel_rays(camera, fine).at(depth.flatten(2).transpose(1, 2))[0]
    solid = (alpha.flatten() > SOLID).numpy()
    row, column = np.divmod(np.arange(fine * fine), fine)
    pixels = row // FINE * side + column // FINE
    keys = _keys((points.double().numpy() / edge)[solid])
    owned, owner, area = _owners(keys, pixels[solid], side * side)
    bare = np.bincount(pixels[~solid], minlength=side * side).astype(float)
    total = np.bincount(owner, area, minlength=side * side) + bare
    numbers = _numbers(owned, len(screen), seed) * np.sqrt(area)
    found = np.stack([np.bincount(owner, x, minlength=side * side) for x in numbers])
    empty = total == 0  # all that it shows is counted elsewhere
    bare[empty], total[empty] = 1, 1
    return (found + np.sqrt(bare) * screen) / np.sqrt(total)


def _keys(cells: np.ndarray) -> np.ndarray:  # [N,3] -> uint64 [N], one number per cube
    whole = (np.floor(cells).clip(-_HALF, _HALF - 1) + _HALF).astype(np.uint64)
    return (whole[:, 0] << np.uint64(42)) | (whole[:, 1] << np.uint64(21)) | whole[:, 2]


def _owners(
    keys: np.ndarray,  # [N], cube of each sample
    pixels: np.ndarray,  # [N], pixel of each sample
    count: int,  # of pixels
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the cubes [K], the pixel that each fills most, and how many samples of it."""
    cubes, index = np.unique(keys, return_inverse=True)
    pairs, samples = np.unique(index * count + pixels, return_counts=True)
    cube, pixel = np.divmod(pairs, count)
    # most samples first, then the lower pixel: the first of each cube is its owner
    order = np.lexsort((pixel, -samples, cube))
    first = np.unique(cube[order], return_index=True)[1]
    chosen = order[first]
    return cubes, pixel[chosen], samples[chosen].astype(float)


def _numbers(keys: np.ndarray, channels: int, seed: int) -> np.ndarray:
    """Return standard normal numbers [C,K] that keys and seed decide alone."""
    with np.errstate(over="ignore"):  # whole numbers that wrap round, as they shall
        start = _hashed(keys + _STEP * np.uint64(seed + 1))
        rows = [_hashed(start + _STEP * np.uint64(channel + 1)) for channel in range(channels)]
    bits = np.stack(rows) >> np.uint64(11)
    return ndtri((bits.astype(np.float64) + 0.5) * 2.0**-53)


def _hashed(x: np.ndarray) -> np.ndarray:  # uint64 -> uint64, splitmix64's last steps
    x = (x ^ (x >> np.uint64(30))) * _MIX[0]
    x = (x ^ (x >> np.uint64(27))) * _MIX[1]
    return x ^ (x >> np.uint64(31))
