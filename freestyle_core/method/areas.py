"""Where in the cube a mix takes place: a mask painted on the front view, or a named part.

A painted mask is lifted to weights in space by the depth of the heads themselves: it holds on the
surface that the front view shows and a little below it, and fades before it would come out at the
back. Named parts are simple solids, in places where the framing of the pictures puts a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt, gaussian_filter
from torch import Tensor

from ..checks import check_numbers
from ..errors import InputError
from ..geometry.cameras import orbit_cameras
from ..geometry.isosurface import lattice_axis
from ..types import CameraBatch, CameraRig, Portrait
from .render import DEFAULT_SETTINGS, RenderSettings, render_views

Part = Literal["hair", "face", "clothes"]
PARTS: tuple[Part, ...] = get_args(Part)
_EDGE = 0.03  # of the picture's width: over which a named part fades
_SOLID = 0.5  # opacity from which a pixel shows a surface


@dataclass(frozen=True)
class Area:
    """A part of the cube in which a mix takes place."""

    weights: Tensor  # [N,N,N] in [0,1], axes (x,y,z), on a lattice with the faces of the cube
    name: str  # for the history of what is mixed there

    def __and__(self, other: Area) -> Area:
        """Return where both are."""
        return Area(self.weights * other.weights, f"{self.name} in {other.name}")


@dataclass(frozen=True)
class LiftSettings:
    """How a painted mask becomes weights in space."""

    softness: float = 0.01  # spread of the mask's edge, a share of the picture's width
    reach: float = 0.08  # below the surface, where weights begin to fade, a share of the cube
    through: bool = False  # to the back of the head, instead of ending below the surface
    lattice: int = 96  # points along each side of the cube

    def __post_init__(self) -> None:
        check_numbers(self)
        if not 0 <= self.softness <= 0.2:
            raise InputError(f"softness must be 0 to 0.2 of the picture, got {self.softness}")
        if not 0 < self.reach <= 0.5:
            raise InputError(f"reach must be above 0 to 0.5 of the cube, got {self.reach}")
        if not 16 <= self.lattice <= 256:
            raise InputError(f"lattice must be 16 to 256 points, got {self.lattice}")


@torch.no_grad()
def masked_area(
    mask: Tensor,  # [H,W] in [0,1] on the front view, 1: mixed
    portraits: Sequence[Portrait],  # those that are mixed
    *,
    settings: LiftSettings | None = None,
    render: RenderSettings = DEFAULT_SETTINGS,
) -> Area:
    """Return the area behind a mask that was painted on the front view.

    The mask is as large as the view, or a whole number of times as large. Where the heads differ
    in shape it reaches down to the deeper surface, so that nothing of the higher one is left.
    """
    settings, config = settings or LiftSettings(), portraits[0].renderer.config
    check_mask(mask, config.image_resolution)
    soft = gaussian_filter(mask.double().numpy(), settings.softness * len(mask), mode="nearest")
    camera = orbit_cameras([0.0], [0.0], config.rig())
    points = _lattice(settings.lattice, config.box_size)
    place, distance = _projected(points, camera)
    weights = _at(torch.from_numpy(soft).float(), place).clamp(0, 1)
    weights[weights < 1e-3] = 0  # the tail of a Gaussian has no end
    if not settings.through:
        surface = torch.stack([_surface(p, camera, render) for p in portraits]).amax(dim=0)
        below = (distance - _at(surface, place)) / (settings.reach * config.box_size)
        weights = weights * _smooth(2 - below)
    return Area(weights.reshape((settings.lattice,) * 3), "mask")


def named_area(name: str, rig: CameraRig, *, box_size: float = 1.0, lattice: int = 96) -> Area:
    """Return the area of hair, face or clothes, where the framing puts them in any head.

    Solids in units of the picture's width at the pivot, fitted by eye to the clay heads; they know
    nothing of one head's hairline. Ears belong to the hair.
    """
    if name not in PARTS:
        raise InputError(f"a region is one of {', '.join(PARTS)}, got {name!r}")
    front = torch.tensor([0.0, 0.0, rig.radius])
    pivot = torch.tensor(rig.pivot)
    unit = float(torch.dist(front, pivot)) / rig.focal
    x, y, z = (_lattice(lattice, box_size) / unit).unbind(-1)
    weights = _SOLIDS[name](x, y, z).reshape((lattice,) * 3)
    return Area(weights, name)


def check_mask(mask: Tensor, size: int) -> None:
    """Raise unless a mask can be one of the front view of `size` x `size` pixels."""
    shape = tuple(mask.shape)
    if mask.ndim != 2 or shape[0] != shape[1] or shape[0] % size:
        given = " x ".join(str(n) for n in reversed(shape))
        raise InputError(
            f"the mask has {given} pixels, but the front view {size} x {size}; paint it on the "
            "front view, or on that enlarged a whole number of times"
        )
    if not mask.isfinite().all() or mask.min() < 0 or mask.max() > 1:
        raise InputError("the mask must be numbers from 0 to 1")
    if mask.max() == 0:
        raise InputError("the mask is empty; paint over what shall turn into the other style")


def _face(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    oval = 1 - ((x / 0.22) ** 2 + ((y + 0.07) / 0.25) ** 2).sqrt()  # 0 on the rim, 1 in the middle
    return _smooth(0.5 + oval * 0.22 / _EDGE) * _smooth(0.5 + (z - 0.06) / _EDGE)


def _clothes(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    return _smooth(0.5 + (-0.41 - y) / _EDGE)


def _hair(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    within = 0.17 - (x**2 + (z + 0.08) ** 2).sqrt()
    neck = _smooth(0.5 + within / _EDGE) * _smooth(0.5 + (-0.22 - y) / _EDGE)
    return (1 - _face(x, y, z)) * (1 - _clothes(x, y, z)) * (1 - neck)


_SOLIDS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "hair": _hair,
    "face": _face,
    "clothes": _clothes,
}


def _smooth(t: Tensor) -> Tensor:
    """Return 0 below 0, 1 above 1, and a curve without corners between."""
    t = t.clamp(0, 1)
    return t * t * (3 - 2 * t)


def _lattice(count: int, box_size: float) -> Tensor:
    """Return the points [N^3,3] of the lattice, x slowest."""
    axis = lattice_axis(count, box_size)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(-1, 3)


def _projected(points: Tensor, camera: CameraBatch) -> tuple[Tensor, Tensor]:
    """Return where in the picture points lie, [M,2] in -1 to 1, and how far from the camera."""
    pose, matrix = camera.cam_to_world[0], camera.intrinsics[0]
    away = points - pose[:3, 3]
    seen = away @ pose[:3, :3] @ matrix.T
    return seen[:, :2] / seen[:, 2:] * 2 - 1, away.norm(dim=-1)


def _at(values: Tensor, place: Tensor) -> Tensor:  # [H,W], [M,2] -> [M]
    """Return the values of a picture at places in it; beyond its edges they go on."""
    found = F.grid_sample(
        values[None, None], place[None, None], padding_mode="border", align_corners=False
    )
    return found.flatten()


def _surface(portrait: Portrait, camera: CameraBatch, render: RenderSettings) -> Tensor:
    """Return the distance [h,w] of the surface; beside the head that of its nearest point."""
    view = render_views(portrait, camera, settings=render)
    depth, empty = view.depth[0, 0].cpu(), (view.alpha[0, 0] < _SOLID).cpu()
    if empty.all():
        raise InputError("the front view shows no head that a mask could be lifted to")
    rows, columns = distance_transform_edt(
        empty.numpy(), return_distances=False, return_indices=True
    )
    return depth[torch.from_numpy(rows).long(), torch.from_numpy(columns).long()]
