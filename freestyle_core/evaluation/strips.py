"""The strip of pictures that is kept of every cell. Read `strip`."""

from __future__ import annotations

import torch
from torch import Tensor

from ..geometry.cameras import orbit_cameras
from ..types import CameraRig, Portrait
from ..visualize.depth_normals import normal_pictures
from .fits import Fit

YAWS_DEG = (-22.0, 0.0, 22.0)
STRIP = ("edited", "left", "front", "right", "surface")  # the pictures of a strip


@torch.no_grad()
def strip(fit: Fit, rig: CameraRig) -> Tensor:
    """Return [3,H,5H]: the edited front, the portrait from three sides, and its surface."""
    seen = fit.render(orbit_cameras(YAWS_DEG, [0.0] * len(YAWS_DEG), rig))
    edited = fit.edited.images[fit.edited.front : fit.edited.front + 1].to(seen.image)
    surface = torch.ones_like(seen.image[:1])
    if isinstance(fit.result, Portrait):
        surface = normal_pictures(fit.result, seen)[2:].to(seen.image)
    return torch.cat(list(torch.cat([edited, seen.image, surface]).clamp(0, 1)), dim=2).cpu()
