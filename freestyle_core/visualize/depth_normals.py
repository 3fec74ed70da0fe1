"""Depth and normals of rendered views as pictures: for ControlNet, relighting and compositing.

Both come at the size of the rendered images, where the head is not they fade by its alpha.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.rays import pixel_rays
from ..progress import Progress, enter_phase, no_progress
from ..types import Portrait, Rendering

_EMPTY_NORMAL = (0.5, 0.5, 1.0)  # looks at the camera
_SOLID = 0.5  # alpha from which a pixel counts as the head
_STEP_TEXELS = 2.0  # half the distance across which the density gradient is taken


def depth_pictures(rendering: Rendering) -> Tensor:
    """Return grey pictures [V,3,H,W] in [0,1]: 1 at the nearest point of all views, 0 far away.

    One scale serves all views, so a video does not flicker. Empty pixels are 0.
    """
    depth, alpha = rendering.depth, rendering.alpha
    solid = depth[alpha >= _SOLID]
    if solid.numel() == 0:
        return torch.zeros_like(rendering.image)
    near, far = solid.min(), solid.max()
    # the farthest solid point stays above the black of the empty pixels
    nearness = 1 - 0.9 * (depth.clamp(near, far) - near) / (far - near).clamp_min(1e-6)
    return _enlarged(nearness * alpha, rendering).clamp(0, 1).expand(-1, 3, -1, -1)


@torch.no_grad()
def normal_pictures(
    portrait: Portrait, rendering: Rendering, *, progress: Progress = no_progress
) -> Tensor:
    """Return pictures [V,3,H,W] in [0,1] of the surface's direction as each camera sees it.

    (n + 1) / 2 with x right, y up, z towards the camera, as in OpenGL normal maps.
    """
    maps: list[Tensor] = []
    views = len(rendering.cameras)
    for view in range(views):
        maps.append(_normals(portrait, rendering, view))
        enter_phase(progress, "normals, view", view + 1, views)
        progress(view + 1, views)
    normals = F.normalize(_enlarged(torch.cat(maps), rendering), dim=1)
    alpha = _enlarged(rendering.alpha, rendering).clamp(0, 1)
    empty = normals.new_tensor(_EMPTY_NORMAL).view(1, 3, 1, 1)
    return ((normals + 1) / 2) * alpha + empty * (1 - alpha)


def _normals(portrait: Portrait, rendering: Rendering, view: int) -> Tensor:  # [1,3,h,w]
    """Return one view's normals, in the camera's axes: against the density gradient."""
    renderer, triplane = portrait.renderer, portrait.triplane
    planes = triplane.planes[view : view + 1] if len(triplane.planes) > 1 else triplane.planes
    camera = rendering.cameras[view]
    size = rendering.depth.shape[-1]
    points = pixel_rays(camera, size).at(rendering.depth[view].reshape(1, -1, 1))  # [1,M,3]
    step = _STEP_TEXELS * triplane.box_size / planes.shape[-1]
    offsets = step * torch.cat([torch.eye(3), -torch.eye(3)]).to(points)
    around = (points[:, None] + offsets[:, None]).flatten(1, 2)
    raw = renderer.decode_density(renderer.fold(planes, triplane.regions), around).reshape(2, 3, -1)
    outward = (raw[1] - raw[0]).T  # [M,3], world axes
    local = outward @ camera.cam_to_world[0, :3, :3]
    # OpenCV axes to OpenGL's: y and z turn round
    local = F.normalize(local * local.new_tensor([1.0, -1.0, -1.0]), dim=1)
    return local.T.reshape(1, 3, size, size)


def _enlarged(maps: Tensor, rendering: Rendering) -> Tensor:
    return F.interpolate(maps, size=rendering.image.shape[-2:], mode="bilinear")
