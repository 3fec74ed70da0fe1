"""Numbers on a mesh as a picture: warm where they are low, cool where they are high.

The mesh is drawn as flat splats, one per vertex, so that nothing but torch is needed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import ShapeError
from ..geometry.cameras import orbit_cameras
from ..geometry.splats import render_splats, turning_z_to
from ..geometry.visibility import vertex_normals
from ..types import CameraRig, Mesh, Splats

# what a number from 0 to 1 looks like: red, orange, sand, teal, blue; also told apart without hue
COLORS = (
    (0.70, 0.09, 0.12),
    (0.92, 0.48, 0.22),
    (0.97, 0.87, 0.60),
    (0.42, 0.70, 0.68),
    (0.10, 0.30, 0.55),
)
YAWS_DEG = (-60.0, 0.0, 60.0, 180.0)
WIDTH, THICKNESS, OPACITY = 0.7, 0.1, 0.95  # of a vertex' splat: its share of the area, flat
LIGHT = 0.35  # of the shading that shows the form


def heat_colors(values: Tensor) -> Tensor:  # [P], in [0,1] -> [P,3]
    """Return the colours of numbers, between the anchors in straight lines."""
    anchors = values.new_tensor(COLORS)
    place = values.clamp(0, 1) * (len(COLORS) - 1)
    low = place.long().clamp(max=len(COLORS) - 2)
    return torch.lerp(anchors[low], anchors[low + 1], (place - low)[:, None])


@torch.no_grad()
def heat_picture(
    mesh: Mesh,
    rig: CameraRig,
    *,
    scale: float = 1.0,  # metres per scene unit of the mesh
    size: int = 384,  # pixels, of each view
) -> Tensor:
    """Return [3,H,4H]: the confidence of a mesh from both sides, the front and the back.

    Raises ShapeError for a mesh without one.
    """
    if mesh.confidence is None:
        raise ShapeError("the mesh has no confidence; add it with `with_confidence`")
    vertices = mesh.vertices / scale
    normals, area = vertex_normals(vertices, mesh.faces)
    wide = (area.sqrt() * WIDTH).clamp_min(1e-5)[:, None]
    cameras = orbit_cameras(YAWS_DEG, [0.0] * len(YAWS_DEG), rig)
    views = []
    for view in range(len(cameras)):
        to_camera = torch.nn.functional.normalize(
            cameras.cam_to_world[view, :3, 3] - vertices, dim=1
        )
        light = 1 - LIGHT + LIGHT * (normals * to_camera).sum(1, keepdim=True).clamp_min(0)
        splats = Splats(
            vertices,
            torch.cat([wide, wide, wide * THICKNESS], dim=1),
            turning_z_to(normals),
            torch.full_like(area, OPACITY),
            heat_colors(mesh.confidence) * light,
        )
        views.append(render_splats(splats, cameras[view], size).image)
    return torch.cat(views, dim=2).clamp(0, 1)
