"""A portrait from many sides at once: what the orbit viewer turns. Read `render_orbit` first.

The views lie on a grid of angles. Depth and opacity are made fit for showing: the viewer moves
pixels by their depth to fill the angles between two views, and lays the head over its own backdrop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..geometry.cameras import orbit_cameras
from ..method.render import DEFAULT_SETTINGS, RenderSettings, render_views
from ..progress import Progress, no_progress
from ..types import CameraBatch, CameraRig, OrbitViews, Portrait

SOLID = 0.5  # alpha from which a pixel's own depth is trusted
PURE = 0.97  # alpha from which a pixel's colour is the head's alone
FAINT = 0.2  # what the filter leaves of an edge a few pixels away; it would glow on a dark ground
FILL_STEPS = 6  # halvings over which depth spreads into empty pixels


@dataclass(frozen=True)
class OrbitGrid:
    """columns x rows views; yaw goes from -range to range, pitch from range down to -range."""

    columns: int = 13
    rows: int = 5
    yaw_range_deg: float = 30.0
    pitch_range_deg: float = 20.0

    def __post_init__(self) -> None:
        for key in ("columns", "rows"):
            if getattr(self, key) < 1:
                raise InputError(f"{key} must be at least 1, got {getattr(self, key)}")
        for key in ("yaw_range_deg", "pitch_range_deg"):
            if getattr(self, key) < 0:
                raise InputError(f"{key} must not be negative, got {getattr(self, key)}")

    def __len__(self) -> int:
        return self.columns * self.rows

    def cameras(self, rig: CameraRig) -> CameraBatch:
        """Return one camera per view, row by row from the top, each from the lowest yaw up."""
        yaw = _angles(self.columns, self.yaw_range_deg)
        pitch = -_angles(self.rows, self.pitch_range_deg)
        rows, columns = torch.meshgrid(pitch, yaw, indexing="ij")
        return orbit_cameras(columns.flatten(), rows.flatten(), rig)


def render_orbit(
    portrait: Portrait,
    grid: OrbitGrid,
    *,
    settings: RenderSettings = DEFAULT_SETTINGS,
    progress: Progress = no_progress,
) -> OrbitViews:
    """Return a portrait seen from every angle of a grid, on the CPU."""
    config = portrait.renderer.config
    views = render_views(portrait, grid.cameras(config.rig()), settings=settings, progress=progress)
    image, alpha, depth = (x.float().cpu() for x in (views.image, views.alpha, views.depth))
    depth = spread(depth, alpha >= SOLID)
    if not config.white_background:
        return OrbitViews(image, None, depth)
    alpha = matte(image, alpha)
    head = spread(image, alpha >= PURE)  # the head's own colour, without white at its edge
    return OrbitViews(alpha * head + (1 - alpha), alpha, depth)


def describe(grid: OrbitGrid, rig: CameraRig) -> dict[str, float]:
    """Return the numbers from which the viewer rebuilds every camera of the grid.

    Angles in degrees; distance in scene units from the pivot, which all cameras look at; focal
    length divided by the image size.
    """
    front = [rig.radius * (axis == 2) - rig.pivot[axis] for axis in range(3)]
    return {
        "columns": grid.columns,
        "rows": grid.rows,
        "yaw_deg": grid.yaw_range_deg,
        "pitch_deg": grid.pitch_range_deg,
        "distance": math.hypot(*front),
        "focal": rig.focal,
    }


def spread(values: Tensor, known: Tensor) -> Tensor:  # [V,C,h,w], bool [V,1,h,w] -> [V,C,h,w]
    """Return values that continue smoothly from the known pixels into all others.

    Pull-push: known pixels are averaged at ever coarser levels, and every other pixel takes the
    finest level that has something to say.
    """
    weight = known.to(values)
    levels = [(values * weight, weight)]
    for _ in range(FILL_STEPS):
        if min(levels[-1][0].shape[-2:]) < 2:
            break
        coarse, share = (F.avg_pool2d(x, 2, ceil_mode=True) for x in levels[-1])
        levels.append((coarse, share))
    total, weight = (x.mean(dim=(0, 2, 3), keepdim=True) for x in levels[-1])
    mean = torch.where(weight > 0, total / weight.clamp_min(1e-6), values.mean())
    filled = mean.expand_as(levels[-1][0])
    for total, weight in reversed(levels):
        coarse = F.interpolate(filled, size=weight.shape[-2:], mode="bilinear")
        filled = torch.where(weight > 0, total / weight.clamp_min(1e-6), coarse)
    return filled


def matte(
    image: Tensor,  # [V,3,H,W], in [0,1], on white
    alpha: Tensor,  # [V,1,h,w], in [0,1]
    *,
    radius: int = 3,  # pixels of the image
    epsilon: float = 1e-3,
) -> Tensor:  # [V,1,H,W], in [0,1]
    """Return opacity at the size of the pictures, its edge where the pictures have theirs.

    A guided filter (He et al. 2010) with the picture's distance from white as the guide: in every
    small window opacity is taken as a linear function of it. The edge is one or two pixels wide.
    """
    alpha = F.interpolate(alpha, size=image.shape[-2:], mode="bilinear")
    guide = 1 - image.amin(dim=1, keepdim=True)

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2 * radius + 1, 1, radius, count_include_pad=False)

    covariance = mean(guide * alpha) - mean(guide) * mean(alpha)
    variance = mean(guide * guide) - mean(guide) ** 2
    slope = covariance / (variance + epsilon)
    offset = mean(alpha) - slope * mean(guide)
    fitted = mean(slope) * guide + mean(offset)
    steep = ((fitted - FAINT) / (1 - 2 * FAINT)).clamp(0, 1)
    return F.avg_pool2d(F.pad(steep, (1, 1, 1, 1), mode="replicate"), 3, 1)


def _angles(count: int, reach: float) -> Tensor:
    return torch.linspace(-reach, reach, count) if count > 1 else torch.zeros(1)
