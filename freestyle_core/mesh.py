"""The geometry of a portrait as a coloured triangle mesh (Fig. 5 of the paper)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import InputError
from .geometry.isosurface import density_lattice, extract_surface, largest_component, raw_level
from .progress import Progress, no_progress
from .types import Mesh, Portrait


@dataclass(frozen=True)
class MeshSettings:
    """How fine the mesh is and where its surface lies."""

    resolution: int = 192  # lattice points along each side of the cube
    level: float = 10.0  # density per scene unit at the surface; EG3D models: 2 to 20
    largest_only: bool = True  # drop floaters and the bubbles inside
    memory_mb: int = 256

    def __post_init__(self) -> None:
        if not 8 <= self.resolution <= 1024:
            raise InputError(f"mesh resolution must be 8 to 1024, got {self.resolution}; try 192")
        if not 0 < self.level < float("inf"):
            raise InputError(f"density level must be above 0, got {self.level}; try 10")


@torch.no_grad()
def extract_mesh(
    portrait: Portrait, *, settings: MeshSettings | None = None, progress: Progress = no_progress
) -> Mesh:
    """Return the surface of `portrait` with the decoder's colour at every vertex."""
    settings = settings or MeshSettings()
    renderer, box_size = portrait.renderer, portrait.triplane.box_size
    folded = renderer.fold(portrait.triplane.planes[:1])
    total = settings.resolution + 2  # slabs, marching cubes, colours

    def on_slab(done: int, _total: int, _preview: Tensor | None = None) -> None:
        progress(done, total)

    field = density_lattice(
        folded, renderer.decoder.density, settings.resolution,
        memory_mb=settings.memory_mb, progress=on_slab,
    )
    vertices, faces = extract_surface(field, raw_level(settings.level), box_size)
    if settings.largest_only:
        vertices, faces = largest_component(vertices, faces)
    progress(total - 1, total)
    colors = _colors_at(portrait, folded, vertices, settings.memory_mb)
    progress(total, total)
    return Mesh(vertices, faces, colors)


def _colors_at(portrait: Portrait, folded: object, vertices: Tensor, memory_mb: int) -> Tensor:
    """Return the colour [P,3] in [0,1] of each vertex: the first three decoded channels."""
    planes = portrait.triplane.planes
    step = max(4096, memory_mb * 2**20 // (16 * 4 * planes.shape[2]))
    chunks = []
    for points in vertices.split(step):
        _, features = portrait.renderer.decode(folded, points[None].to(planes.device, planes.dtype))
        chunks.append(features[0, :, :3].float().cpu())
    return torch.cat(chunks).clamp(0, 1)
