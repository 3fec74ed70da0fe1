"""From triplanes to triangles: the density on a regular lattice, then marching cubes.

On a lattice bilinear plane sampling is separable: each plane is resampled once to N x N, and the
features of a slab of N x N points are sums of rows. Axes of every lattice are (x, y, z).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from operator import add

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.measure import marching_cubes
from torch import Tensor

from ..errors import InputError
from ..progress import Progress, no_progress
from .triplane import FoldedPlanes, FoldedRegion

_AXES = "xyz"
_FLOATS_PER_POINT = 4  # rough working copies of each feature value


def lattice_axis(resolution: int, box_size: float) -> Tensor:
    """Return the N coordinates of a lattice that spans the cube, faces included (scene units)."""
    return torch.linspace(-box_size / 2, box_size / 2, resolution)


def density_lattice(
    folded: FoldedPlanes,  # batch of one
    decode: Callable[[Tensor], Tensor],  # features [1,C,M] -> raw density [1,1,M]
    resolution: int,
    *,
    memory_mb: int = 256,
    progress: Progress = no_progress,
) -> Tensor:
    """Return the raw density [N,N,N] on the lattice of the cube, slab by slab."""
    resampled = _resampled_planes(folded, resolution)
    added = [_resampled_region(region, resolution) for region in folded.regions]
    channels = folded.planes.shape[2]
    slab_bytes = 4 * _FLOATS_PER_POINT * channels * resolution**2
    step = max(1, int(memory_mb * 2**20 / slab_bytes))
    field = torch.empty(resolution, resolution, resolution)
    for first in range(0, resolution, step):
        slab = slice(first, min(first + step, resolution))
        features = _slab(resampled, slab)
        for weights, planes in added:
            features = features + weights[slab] * _slab(planes, slab)
        density = decode(features.flatten(1)[None])
        field[slab] = density.view(-1, resolution, resolution).float().cpu()
        progress(slab.stop, resolution)
    return field


def raw_level(density: float) -> float:
    """Return the raw density at which softplus(raw - 1) equals `density`."""
    # softplus inverse, written so that large densities do not overflow
    return 1.0 + density + math.log(-math.expm1(-density))


def _density(raw: float) -> float:
    """Return softplus(raw - 1), the inverse of `raw_level`."""
    return max(raw - 1, 0.0) + math.log1p(math.exp(-abs(raw - 1)))


def extract_surface(
    field: Tensor,  # [N,N,N], larger inside
    level: float,
    box_size: float,
) -> tuple[Tensor, Tensor]:
    """Return vertices [P,3] (scene units) and outward-wound faces [Q,3] where `field` is `level`.

    The outermost lattice points count as empty, so that what touches the cube is closed there.
    """
    low, high = float(field.min()), float(field.max())
    inside = field[1:-1, 1:-1, 1:-1]
    if not (inside.numel() and float(inside.max()) > level and low < high):
        raise InputError(
            f"no surface: the density reaches {_density(high):.3g} and the surface was asked for "
            f"at {_density(level):.3g}; choose a lower density level"
        )
    # straight lines between lattice points suit the logarithm of a density that leaps better
    closed = np.full(field.shape, np.arcsinh(min(low - level, -1.0)), dtype=np.float32)
    core = closed[1:-1, 1:-1, 1:-1]  # filled in place: at 512 points each copy is half a gigabyte
    np.subtract(inside.numpy(), np.float32(level), out=core)
    np.arcsinh(core, out=core)
    spacing = box_size / (field.shape[0] - 1)
    vertices, faces, _, _ = marching_cubes(
        closed, 0.0, spacing=(spacing,) * 3, gradient_direction="descent", allow_degenerate=False
    )
    points = torch.from_numpy(vertices.astype(np.float32)) - box_size / 2
    triangles = torch.from_numpy(faces.astype(np.int64))
    return points, _wound_outward(points, triangles)


def signed_volume(vertices: Tensor, faces: Tensor) -> float:
    """Return the enclosed volume; positive when the faces are wound outward."""
    a, b, c = vertices.double()[faces].unbind(1)
    # sum of the tetrahedra to the origin: a . (b x c) / 6
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


def is_closed(faces: Tensor) -> bool:  # [Q,3]
    """Return whether every edge joins exactly two faces that agree about the outside."""
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    count = int(faces.max()) + 1
    there, back = edges[:, 0] * count + edges[:, 1], edges[:, 1] * count + edges[:, 0]
    unique = torch.unique(there)
    return len(unique) == len(there) and torch.equal(unique, torch.unique(back))


def largest_component(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """Return the connected piece that encloses the most volume, without floaters and bubbles."""
    count = vertices.shape[0]
    edges = torch.cat([faces[:, :2], faces[:, 1:]]).numpy()
    graph = coo_array((np.ones(len(edges), dtype=bool), (edges[:, 0], edges[:, 1])), (count, count))
    pieces, of_vertex = connected_components(graph, directed=False)
    if pieces == 1:
        return vertices, faces
    of_face = torch.from_numpy(of_vertex[faces[:, 0].numpy()].astype(np.int64))
    a, b, c = vertices.double()[faces].unbind(1)
    volumes = torch.zeros(pieces, dtype=torch.float64)
    volumes.index_add_(0, of_face, (a * torch.linalg.cross(b, c)).sum(1))
    kept = faces[of_face == int(volumes.argmax())]
    used, renumbered = torch.unique(kept, return_inverse=True)
    return vertices[used], renumbered


def _slab(resampled: list[Tensor], slab: slice) -> Tensor:
    """Return the features [C,n,N,N] of some of the lattice's layers along x."""
    return reduce(add, (p[:, slab] if p.shape[1] > 1 else p for p in resampled))


def _resampled_region(region: FoldedRegion, resolution: int) -> tuple[Tensor, list[Tensor]]:
    """Return a region's weights [X,Y,Z] at the lattice points, and its planes there."""
    sizes = (resolution,) * 3
    weights = F.interpolate(region.weights, sizes, mode="trilinear", align_corners=True)
    return weights[0, 0].permute(2, 1, 0), _resampled_planes(region.folded, resolution)


def _resampled_planes(folded: FoldedPlanes, resolution: int) -> list[Tensor]:
    """Return each plane at the lattice points, as [C,X,Y,Z] with size 1 along the unused axis."""
    device, dtype = folded.planes.device, folded.planes.dtype
    axis = lattice_axis(resolution, 2.0).to(device, dtype)  # grid_sample's -1..1
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    grid = torch.stack([columns, rows], dim=-1)[None]
    planes = []
    for index, pair in enumerate(folded.axes):
        width, height = pair[0], pair[1]
        plane = F.grid_sample(
            folded.planes[:1, index],
            grid,
            mode="bilinear",
            padding_mode="zeros",
            align_corners=False,
        )[0]  # [C,height,width]
        if _AXES.index(width) < _AXES.index(height):
            plane = plane.transpose(1, 2)
        (unused,) = set(_AXES) - {width, height}
        planes.append(plane.unsqueeze(1 + _AXES.index(unused)))
    return planes


def _wound_outward(vertices: Tensor, faces: Tensor) -> Tensor:
    return faces if signed_volume(vertices, faces) > 0 else faces.flip(1)
