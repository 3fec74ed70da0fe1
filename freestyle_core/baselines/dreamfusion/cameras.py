"""Where the field is looked at from, and how it lies in our scene.

The field has units of its own: a box from -1 to 1 about the origin, y up, the front towards +z, as
in our scene. `Placement` says how large it is there: such that an evaluation camera, one of the
generator's rig (radius 2.7), has as much of the field in its picture as the middle one of the
published training cameras (radius 3.25, field of view 20 degrees: 1.146 units across).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...checks import check_numbers
from ...errors import InputError
from ...geometry.cameras import intrinsics_matrix, look_at_matrix
from ...types import CameraBatch, CameraRig

Range = tuple[float, float]


@dataclass(frozen=True)
class ViewRanges:
    """Even ranges from which training cameras are drawn; the defaults are the published ones."""

    polar_deg: tuple[float, float] = (45.0, 105.0)  # from straight above
    azimuth_deg: tuple[float, float] = (-180.0, 180.0)  # from the front, more is towards +x
    radius: tuple[float, float] = (3.0, 3.5)  # field units from the middle
    fov_deg: tuple[float, float] = (10.0, 30.0)  # of the whole picture

    def __post_init__(self) -> None:
        check_numbers(self)
        limits = {
            "polar_deg": (1.0, 179.0),
            "azimuth_deg": (-180.0, 180.0),
            "radius": (1e-3, 1e3),
            "fov_deg": (1.0, 170.0),
        }
        for name, (least, most) in limits.items():
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise InputError(
                    f"{name} must be two rising numbers from {least:g} to {most:g}, got "
                    f"{low:g} and {high:g}"
                )

    def half_extent(self) -> float:
        """Return half of what the middle camera sees at the field's middle, in field units."""
        return _middle(self.radius) * math.tan(math.radians(_middle(self.fov_deg)) / 2)


PUBLISHED_VIEWS = ViewRanges()


def _middle(pair: tuple[float, float]) -> float:
    return (pair[0] + pair[1]) / 2


@dataclass(frozen=True)
class View:
    """One training camera and the angles it was drawn with."""

    camera: CameraBatch  # 1, field units
    polar_deg: float
    azimuth_deg: float


def draw_view(ranges: ViewRanges, u: Tensor) -> View:  # u [4] in [0,1)
    """Return the camera that four even random numbers stand for."""
    pairs = (ranges.polar_deg, ranges.azimuth_deg, ranges.radius, ranges.fov_deg)
    polar, azimuth, radius, fov = (
        low + (high - low) * float(x) for (low, high), x in zip(pairs, u, strict=True)
    )
    theta, phi = math.radians(polar), math.radians(azimuth)
    place = torch.tensor(
        [[math.sin(theta) * math.sin(phi), math.cos(theta), math.sin(theta) * math.cos(phi)]],
        dtype=torch.float64,
    )
    matrix = look_at_matrix(radius * place, torch.zeros(3, dtype=torch.float64)).float()
    focal = 0.5 / math.tan(math.radians(fov) / 2)
    return View(CameraBatch(matrix, intrinsics_matrix(focal)), polar, azimuth)


@dataclass(frozen=True)
class Placement:
    """The field in our scene: field = scale (scene - pivot)."""

    pivot: tuple[float, float, float]  # scene units
    scale: float  # field units in a scene unit

    def into_field(self, cameras: CameraBatch) -> CameraBatch:
        """Return cameras of our scene as cameras of the field."""
        matrix = cameras.cam_to_world.clone()
        pivot = torch.tensor(self.pivot, dtype=matrix.dtype, device=matrix.device)
        matrix[:, :3, 3] = (matrix[:, :3, 3] - pivot) * self.scale
        return CameraBatch(matrix, cameras.intrinsics)


def _distance(rig: CameraRig) -> float:
    """Return how far the front camera stands from the pivot, scene units."""
    return math.dist((0.0, 0.0, rig.radius), rig.pivot)


def placed(rig: CameraRig) -> Placement:
    """Return where the field lies for the cameras of a generator."""
    seen = _distance(rig) * 0.5 / rig.focal
    return Placement(rig.pivot, PUBLISHED_VIEWS.half_extent() / seen)


def generator_views(
    rig: CameraRig,
    views_deg: tuple[float, float],  # yaw and pitch to each side of the front
) -> ViewRanges:
    """Return ranges of one lens and one distance, those of a generator's cameras.

    For a teacher that has seen nothing else.
    """
    yaw, pitch = views_deg
    fov = math.degrees(2 * math.atan(0.5 / rig.focal))
    radius = _distance(rig) * placed(rig).scale
    front = math.degrees(math.acos(-rig.pivot[1] / _distance(rig)))
    return ViewRanges((front - pitch, front + pitch), (-yaw, yaw), (radius, radius), (fov, fov))
