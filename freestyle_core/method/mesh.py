"""The geometry of a portrait as a coloured triangle mesh (Fig. 5 of the paper).

`extract_mesh` samples the density on a lattice, shapes that lattice (base, back, hollows), cuts the
surface out of it, and colours what is left. Up to the scaling everything is in scene units.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from ..checks import check_numbers
from ..errors import InputError
from ..geometry.isosurface import (
    density_lattice,
    extract_surface,
    is_closed,
    largest_component,
    raw_level,
)
from ..geometry.lattice_edits import bust_base, cut, inside_of, without_hollows
from ..progress import Progress, enter_phase, no_progress
from ..types import CameraRig, Mesh, Portrait

PIECE = 0.5  # of a head's height: a mesh below that is only a piece of one
HEAD_SHARE = 0.77  # of the height of a front picture, chin to crown; portraits are framed like that
_FEWER = 0.95  # next try when a simplified mesh is not closed
_TRIES = 6
_BISECTIONS = 6  # to 1/128 of a lattice step
CPU_MB = 32  # of working memory at most on a CPU, where more makes nothing faster
_RIM = 4  # lattice steps from a cut: the surface that gives it its colour


@dataclass(frozen=True)
class MeshSettings:
    """How fine the mesh is, where its surface lies, and what is done to it."""

    resolution: int = 192  # lattice points along each side of the cube
    level: float = 10.0  # density per scene unit at the surface; EG3D models: 2 to 20
    largest_only: bool = True  # drop floaters and the bubbles inside
    flat_base: bool = True  # end the bust below the shoulders in a flat, closed face
    cut_back: float = 0.0  # share of the depth to cut off the back of the head, 0 keeps it
    watertight: bool = False  # fill hollows; closed even where simplified
    max_faces: int = 0  # simplify to about so many triangles, 0 keeps all
    head_height_m: float = 0.25  # metres from chin to crown; 0 keeps scene units
    memory_mb: int = 256

    def __post_init__(self) -> None:
        check_numbers(self)
        if not 8 <= self.resolution <= 1024:
            raise InputError(f"mesh resolution must be 8 to 1024, got {self.resolution}; try 192")
        if not 0 < self.level < float("inf"):
            raise InputError(f"density level must be above 0, got {self.level}; try 10")
        if not 0 <= self.cut_back <= 0.9:
            raise InputError(f"cut_back must be 0 to 0.9, got {self.cut_back}; 0.5 cuts half off")
        if self.max_faces != 0 and self.max_faces < 100:
            raise InputError(f"max_faces must be at least 100, or 0 for all, got {self.max_faces}")
        if not 0 <= self.head_height_m < float("inf"):
            raise InputError(f"head height must not be negative, got {self.head_height_m} metres")


@torch.no_grad()
def extract_mesh(
    portrait: Portrait, *, settings: MeshSettings | None = None, progress: Progress = no_progress
) -> Mesh:
    """Return the surface of `portrait` with the decoder's colour at every vertex.

    In metres when the settings give the head a height, about the scene's origin either way.
    """
    settings = settings or MeshSettings()
    renderer, box_size = portrait.renderer, portrait.triplane.box_size
    folded = renderer.fold(portrait.triplane.planes[:1], portrait.triplane.regions)
    if folded.planes.device.type == "cpu":
        settings = replace(settings, memory_mb=min(settings.memory_mb, CPU_MB))
    total = settings.resolution + 3  # slabs, marching cubes, colours, simplifying

    def on_slab(done: float, _total: int, _preview: Tensor | None = None) -> None:
        enter_phase(progress, "density, slab", int(done), settings.resolution)
        progress(done, total)

    def on_step(step: int) -> None:
        enter_phase(progress, "surface, step", step, 3)
        progress(settings.resolution + step, total)

    field = density_lattice(
        folded,
        renderer.decoder.density,
        settings.resolution,
        memory_mb=settings.memory_mb,
        progress=on_slab,
    )
    level = raw_level(settings.level)
    field, flats = _shaped(field, level, settings)
    vertices, faces = extract_surface(field, level, box_size)
    if settings.largest_only or settings.watertight:
        vertices, faces = largest_component(vertices, faces)
    on_step(1)
    spacing = box_size / (settings.resolution - 1)
    flats = [(axis, index * spacing - box_size / 2) for axis, index in flats]
    vertices = _settled(portrait, folded, vertices, level, spacing, flats, settings.memory_mb)
    colors = _colors_at(portrait, folded, vertices, settings.memory_mb)
    for axis, position in flats:
        colors = _covered(vertices, colors, axis, position, spacing)
    on_step(2)
    vertices, faces, colors = _simplified(vertices, faces, colors, settings)
    on_step(3)
    scale = 1.0
    if settings.head_height_m:
        scale = metres_per_unit(renderer.config.rig(), settings.head_height_m)
    return Mesh(vertices * scale, faces, colors)


def metres_per_unit(rig: CameraRig, head_height_m: float = 0.25) -> float:
    """Return the length of a scene unit when a head, as the model frames it, is that high.

    The same for every head of a model, so a child's stays smaller than an adult's.
    """
    distance = torch.dist(torch.tensor([0.0, 0.0, rig.radius]), torch.tensor(rig.pivot)).item()
    # a picture shows distance / focal scene units at the pivot
    return head_height_m / (HEAD_SHARE * distance / rig.focal)


def share_of_head(mesh: Mesh, rig: CameraRig, settings: MeshSettings) -> float:
    """Return how high a mesh made with `settings` is, as a share of a head from chin to crown.

    A whole bust has about 1.4; much less means that the level or a cut left only a piece.
    """
    head = settings.head_height_m or 1 / metres_per_unit(rig, 1.0)
    return float(mesh.vertices[:, 1].max() - mesh.vertices[:, 1].min()) / head


def _shaped(
    field: Tensor, level: float, settings: MeshSettings
) -> tuple[Tensor, list[tuple[int, float]]]:
    """Return the field with its cuts and filled hollows, and the cuts as (axis, lattice index)."""
    if not (settings.flat_base or settings.cut_back or settings.watertight):
        return field, []
    inside = inside_of(field, level)
    flats: list[tuple[int, float]] = []
    base = bust_base(inside) if settings.flat_base else None
    if base is not None:
        inside[:, :base] = False
        flats.append((1, float(base)))
    if settings.cut_back and inside.any():
        depths = np.flatnonzero(inside.any(axis=(0, 1)))
        flats.append((2, float(depths[0] + settings.cut_back * (depths[-1] - depths[0]))))
    if settings.watertight and inside.any():
        field = without_hollows(field, level, inside)
    for axis, index in flats:
        field = cut(field, level, axis, index)
    return field, flats


def _settled(
    portrait: Portrait,
    folded: object,
    vertices: Tensor,  # [P,3], each on an edge of the lattice
    level: float,
    spacing: float,  # of the lattice, scene units
    flats: list[tuple[int, float]],  # axis and position of the cuts, scene units
    memory_mb: int,
) -> Tensor:
    """Return the vertices where the density itself crosses the level, by bisecting their edges.

    Density leaps by orders of magnitude inside a head; a straight line between two lattice points
    crosses the level far from where the density does, and the surface would look terraced.
    """
    origin = -portrait.triplane.box_size / 2
    lattice = (vertices - origin) / spacing
    rest = (lattice - lattice.round()).abs()
    axis = rest.argmax(dim=1, keepdim=True)
    along = torch.zeros_like(vertices).scatter_(1, axis, 1.0)
    start = torch.where(along > 0, lattice.floor(), lattice.round())

    def is_inside(shares: Tensor) -> Tensor:  # [P,1] of the edge -> [P,1]
        points = (start + shares * along) * spacing + origin
        inside = _density_at(portrait, folded, points, memory_mb) > level
        for number, position in flats:
            inside &= points[:, number : number + 1] >= position
        return inside

    low, high = torch.zeros_like(rest[:, :1]), torch.ones_like(rest[:, :1])
    first = is_inside(low)
    crosses = (first != is_inside(high)) & (rest.amax(dim=1, keepdim=True) > 1e-4)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        same = is_inside(middle) == first
        low, high = torch.where(same, middle, low), torch.where(same, high, middle)
    settled = (start + (low + high) / 2 * along) * spacing + origin
    return torch.where(crosses, settled, vertices)


def _density_at(portrait: Portrait, folded: object, points: Tensor, memory_mb: int) -> Tensor:
    """Return the raw density [P,1] at points [P,3], a bounded number at a time."""
    planes = portrait.triplane.planes
    step = max(4096, memory_mb * 2**20 // (16 * 4 * planes.shape[2]))
    return torch.cat(
        [
            portrait.renderer.decode_density(folded, part[None].to(planes.device, planes.dtype))[0]
            .float()
            .cpu()
            for part in points.split(step)
        ]
    )


def _simplified(
    vertices: Tensor, faces: Tensor, colors: Tensor, settings: MeshSettings
) -> tuple[Tensor, Tensor, Tensor]:
    """Return about `max_faces` triangles of the same shape; closed ones if it must be so."""
    if settings.max_faces == 0 or len(faces) <= settings.max_faces:
        return vertices, faces, colors
    target = settings.max_faces
    for _ in range(_TRIES):
        points, triangles = _decimate(vertices, faces, target)
        # collapsing edges now and then leaves more than two faces at one
        if not settings.watertight or is_closed(triangles):
            # new vertices lie beside the surface, where the model may paint the background
            _, nearest = cKDTree(vertices.numpy()).query(points.numpy())
            return points, triangles, colors[torch.from_numpy(nearest)]
        target = int(target * _FEWER)
    return vertices, faces, colors


def _decimate(vertices: Tensor, faces: Tensor, target: int) -> tuple[Tensor, Tensor]:
    try:
        import fast_simplification
    except ImportError as error:
        raise InputError(
            "a smaller mesh needs the package fast-simplification; install it with "
            "`pip install fast-simplification`, or set the number of faces to 0"
        ) from error
    points, triangles = fast_simplification.simplify(
        vertices.numpy(), faces.numpy().astype(np.int32), target_count=target
    )
    corners = np.sort(triangles, axis=1)
    _, group, count = np.unique(corners, axis=0, return_inverse=True, return_counts=True)
    # two faces back to back enclose nothing: a fin that a collapse left standing
    kept = triangles[count[group.ravel()] == 1]
    used, renumbered = np.unique(kept, return_inverse=True)
    return (
        torch.from_numpy(points[used].astype(np.float32)),
        torch.from_numpy(renumbered.reshape(-1, 3).astype(np.int64)),
    )


def _colors_at(portrait: Portrait, folded: object, vertices: Tensor, memory_mb: int) -> Tensor:
    """Return the colour [P,3] in [0,1] of each vertex: the first three decoded channels."""
    planes = portrait.triplane.planes
    step = max(4096, memory_mb * 2**20 // (16 * 4 * planes.shape[2]))
    chunks = []
    for points in vertices.split(step):
        _, features = portrait.renderer.decode(folded, points[None].to(planes.device, planes.dtype))
        chunks.append(features[0, :, :3].float().cpu())
    return torch.cat(chunks).clamp(0, 1)


def _covered(
    vertices: Tensor, colors: Tensor, axis: int, position: float, spacing: float
) -> Tensor:
    """Return the colours with one for a whole cut face: the mean of the surface at its rim.

    What the model paints inside a head, nobody ever looked at.
    """
    distance = (vertices[:, axis] - position).abs()
    flat = distance < spacing / 4
    rim = (distance < _RIM * spacing) & ~flat
    if not flat.any() or not rim.any():
        return colors
    return torch.where(flat[:, None], colors[rim].mean(dim=0), colors)
