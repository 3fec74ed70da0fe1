"""How far each vertex of a portrait's mesh can be trusted: was it seen, and did the edits agree?

A portrait is learnt from edited views of a head. What no view showed, or only at a slant, the model
made up; where the editor painted a point differently in every view, its colour is a compromise.
Both can be told without knowing the truth. For a vertex with cosines c_v between its normal and
the direction to view v, 0 where it is not seen, and edited colours x_v there,

    seen = S / (S + K),  S = sum_v c_v^2,
    off = sqrt(sum_v c_v^2 |x_v - mean|^2 / (3 S)),
    confidence = seen / (1 + off / D).

Read `with_confidence`; docs/assets.md has how well it ranks vertices by their true error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import ShapeError
from ..geometry.visibility import sightings, vertex_normals
from ..progress import Progress, no_progress
from ..types import CameraBatch, FewShotSet, Mesh, Portrait
from .audit import tolerance_of
from .mesh import metres_per_unit
from .render import DEFAULT_SETTINGS, RenderSettings, render_views

ENOUGH = 2.0  # K: so many views that see a vertex squarely make half of the trust
USUAL = 0.1  # D: a disagreement, of colours in [0,1], that halves it


@dataclass(frozen=True)
class Evidence:
    """What the views say of P points."""

    seen: Tensor  # [P], in [0,1): 0 where no view shows the point
    off: Tensor | None  # [P], disagreement of the edited colours, 0 where fewer than two show it

    @property
    def confidence(self) -> Tensor:
        """Return how far to trust each point [P], in [0,1)."""
        return self.seen if self.off is None else self.seen / (1 + self.off / USUAL)


@torch.no_grad()
def evidence(
    points: Tensor,  # [P,3], scene units
    normals: Tensor,  # [P,3], unit length
    portrait: Portrait,  # whose depth says what hides what
    views: CameraBatch | FewShotSet,  # that it was learnt from; without pictures, only who saw what
    *,
    render: RenderSettings = DEFAULT_SETTINGS,
    progress: Progress = no_progress,
) -> Evidence:
    """Return how well the views saw points of a portrait's surface, and how far they agree."""
    few_shot = views if isinstance(views, FewShotSet) else None
    cameras = views.cameras if isinstance(views, FewShotSet) else views
    drawn = render_views(portrait, cameras, settings=render, progress=progress)
    tolerance = tolerance_of(portrait.renderer.config.rig())
    points, normals = points.to(drawn.depth), normals.to(drawn.depth)
    found = sightings(points, normals, drawn.depth, drawn.alpha, drawn.cameras, tolerance=tolerance)
    weight = found.facing.square()[..., None]  # [V,P,1]
    total = weight.sum(0)
    seen = (total / (total + ENOUGH))[:, 0].cpu()
    if few_shot is None:
        return Evidence(seen, None)
    colors = found.colors(few_shot.images.to(drawn.depth))
    mean = (weight * colors).sum(0) / total.clamp_min(1e-9)
    square = (weight * (colors - mean).square()).sum(0) / total.clamp_min(1e-9)
    return Evidence(seen, square.mean(1).sqrt().cpu())


def with_confidence(
    mesh: Mesh,
    portrait: Portrait,
    views: CameraBatch | FewShotSet,
    *,
    head_height_m: float = 0.25,  # that the mesh was made with; 0: it is in scene units
    render: RenderSettings = DEFAULT_SETTINGS,
    progress: Progress = no_progress,
) -> Mesh:
    """Return a mesh of the portrait with a confidence at every vertex.

    `views` are those that the portrait was learnt from: the few-shot set where the edited pictures
    are at hand, else the cameras, and then agreement does not count.
    """
    if len(mesh.vertices) == 0:
        raise ShapeError("the mesh has no vertices; lower the density level")
    scale = metres_per_unit(portrait.renderer.config.rig(), head_height_m) if head_height_m else 1.0
    normals, _ = vertex_normals(mesh.vertices, mesh.faces)
    found = evidence(
        mesh.vertices / scale, normals, portrait, views, render=render, progress=progress
    )
    return replace(mesh, confidence=found.confidence)
