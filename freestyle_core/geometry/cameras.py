"""Cameras round a head. `orbit_cameras` makes any view; the other functions choose the angles.

Yaw and pitch are degrees, true azimuth and elevation about the rig's pivot: +yaw moves the camera
to +x, +pitch moves it up. Axes are those of `CameraBatch`. EG3D's own sampler, whose "pitch" is not
an angle, is `eg3d_look_at`, kept for comparing with its renderings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..types import CameraBatch, CameraRig

EASINGS = ("smooth", "even", "slow ends")  # of a turntable
MAX_ELEVATION_DEG = 89.0  # closer to the pole "up" is undefined


def intrinsics_matrix(focal: float, *, views: int = 1) -> Tensor:
    """Return [V,3,3] with the principal point in the middle."""
    matrix = torch.tensor([[focal, 0.0, 0.5], [0.0, focal, 0.5], [0.0, 0.0, 1.0]])
    return matrix.expand(views, 3, 3).clone()


def look_at_matrix(position: Tensor, target: Tensor) -> Tensor:
    """Return cam_to_world [V,4,4] of cameras at `position` [V,3] that look at `target` [3]."""
    forward = F.normalize(target - position, dim=-1)
    up = torch.tensor([0.0, 1.0, 0.0], dtype=forward.dtype).expand_as(forward)
    right = F.normalize(torch.linalg.cross(forward, up), dim=-1)
    down = F.normalize(torch.linalg.cross(forward, right), dim=-1)
    matrix = torch.eye(4, dtype=forward.dtype).repeat(position.shape[0], 1, 1)
    matrix[:, :3, :3] = torch.stack([right, down, forward], dim=-1)
    matrix[:, :3, 3] = position
    return matrix


def viewer_camera(
    info: Mapping[str, Any],  # ComfyUI's LOAD3D_CAMERA
    rig: CameraRig,
) -> CameraBatch:
    """Return the camera that sees the pivot from where a 3D viewer's camera sees its target.

    Viewers use three.js axes: y up, looking down -z. Direction, roll and zoom are taken over.
    Distance and field of view are not: a generator knows heads at one distance through one lens.
    """
    eye, target = (_vector(info, key, "xyz") for key in ("position", "target"))
    focal = rig.focal * _number(info.get("zoom") or 1, "zoom")
    if not (math.isfinite(focal) and focal > 0):
        raise InputError(f"the camera's zoom must be above 0, got {info.get('zoom')}")
    if info.get("quaternion"):
        # columns of the rotation: right, up, backward; OpenCV wants right, down, forward
        axes = _rotation(_vector(info, "quaternion", "xyzw")) * torch.tensor([1.0, -1.0, -1.0])
    elif (eye - target).norm() < 1e-9:
        raise InputError("the camera stands on its own target; move one of them")
    else:
        axes = look_at_matrix(eye[None], target)[0, :3, :3]
    pivot = torch.tensor(rig.pivot, dtype=torch.float64)
    front = torch.tensor([0.0, 0.0, rig.radius], dtype=torch.float64)
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = axes
    matrix[:3, 3] = pivot - (front - pivot).norm() * axes[:, 2]
    return CameraBatch(matrix[None].float(), intrinsics_matrix(focal))


def _vector(info: Mapping[str, Any], key: str, names: str) -> Tensor:
    """Return the numbers of one field of a viewer's camera; missing ones are 0, w is 1."""
    given = info.get(key) or {}
    if not isinstance(given, Mapping):
        raise InputError(f"the camera's {key} must have {', '.join(names)}, got {given!r:.60}")
    usual = {"w": 1.0}
    values = [_number(given.get(name, usual.get(name, 0.0)), key) for name in names]
    if not all(math.isfinite(value) for value in values):
        raise InputError(f"the camera's {key} must be finite numbers, got {dict(given)}")
    return torch.tensor(values, dtype=torch.float64)


def _number(value: Any, key: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"the camera's {key} must be numbers, got {value!r:.60}") from None


def _rotation(quaternion: Tensor) -> Tensor:  # x, y, z, w -> [3,3]
    length = quaternion.norm()
    if length < 1e-9:
        raise InputError("the camera's quaternion is zero; a rotation has length 1")
    x, y, z, w = (quaternion / length).tolist()
    return torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ],
        dtype=torch.float64,
    )


def orbit_cameras(
    yaw_deg: Tensor | Sequence[float],  # [V]
    pitch_deg: Tensor | Sequence[float],  # [V]
    rig: CameraRig,
) -> CameraBatch:
    """Return cameras that circle the pivot as far away as the front camera; 0, 0 is that camera."""
    yaw, pitch = (torch.as_tensor(a, dtype=torch.float64).reshape(-1) for a in (yaw_deg, pitch_deg))
    if yaw.shape != pitch.shape:
        raise InputError(f"got {len(yaw)} yaw and {len(pitch)} pitch angles; give as many of each")
    if not (yaw.isfinite().all() and pitch.isfinite().all()):
        raise InputError("yaw and pitch must be finite numbers of degrees, got NaN or infinity")
    pivot = torch.tensor(rig.pivot, dtype=torch.float64)
    front = torch.tensor([0.0, 0.0, rig.radius], dtype=torch.float64) - pivot
    distance = front.norm()
    azimuth = torch.deg2rad(yaw) + torch.atan2(front[0], front[2])
    elevation = torch.deg2rad(pitch) + torch.asin(front[1] / distance)
    if (elevation.abs() > math.radians(MAX_ELEVATION_DEG)).any():
        raise InputError(
            f"pitch must stay within {MAX_ELEVATION_DEG:g} degrees of level, got up to "
            f"{pitch.abs().max().item():g}"
        )
    level = torch.cos(elevation)
    offset = torch.stack(
        [torch.sin(azimuth) * level, torch.sin(elevation), torch.cos(azimuth) * level], dim=-1
    )
    matrix = look_at_matrix(pivot + distance * offset, pivot).float()
    return CameraBatch(matrix, intrinsics_matrix(rig.focal, views=len(matrix)))


def front_camera(rig: CameraRig) -> CameraBatch:
    """Return the one camera straight in front."""
    return orbit_cameras([0.0], [0.0], rig)


def grid_cameras(
    count: int,
    rig: CameraRig,
    *,
    yaw_range_deg: float = 30.0,
    pitch_range_deg: float = 30.0,
) -> CameraBatch:
    """Return 1 + count^2 cameras: the front view, then the paper's inclusive count x count grid.

    Rows go from the highest pitch down, columns from the lowest yaw up.
    """
    if count < 1:
        raise InputError(f"the camera grid needs at least 1 view per side, got {count}")
    yaw = torch.linspace(-yaw_range_deg, yaw_range_deg, count) if count > 1 else torch.zeros(1)
    pitch = torch.linspace(pitch_range_deg, -pitch_range_deg, count) if count > 1 else yaw
    rows, columns = torch.meshgrid(pitch, yaw, indexing="ij")
    zero = torch.zeros(1)
    return orbit_cameras(
        torch.cat([zero, columns.flatten()]), torch.cat([zero, rows.flatten()]), rig
    )


def with_front(
    cameras: CameraBatch,
    matrix: Sequence[float],  # 16 numbers of cam_to_world, row by row
) -> CameraBatch:
    """Return the cameras with another one in place of the first."""
    first = torch.tensor([float(x) for x in matrix]).reshape(1, 4, 4).to(cameras.cam_to_world)
    return CameraBatch(torch.cat([first, cameras.cam_to_world[1:]]), cameras.intrinsics)


def turntable_cameras(
    frames: int,
    rig: CameraRig,
    *,
    kind: Literal["sweep", "orbit", "ellipse"] = "sweep",
    yaw_range_deg: float = 30.0,
    pitch_range_deg: float = 10.0,  # ellipse only
    easing: Literal["smooth", "even", "slow ends"] = "smooth",
    loop: bool = True,  # the frame after the last would be the first
) -> CameraBatch:
    """Return cameras for a video.

    sweep: from side to side at eye level (with `loop`, right, left and back; without, once from
    left to right). orbit: once round the head. ellipse: yaw and pitch together, as in EG3D videos.

    Easing says how the time passes. smooth: a sweep slows down where it turns back, the rest is
    even. even: the same angle every frame. slow ends: at rest at the first and the last frame.
    """
    if frames < 1:
        raise InputError(f"a turntable needs at least 1 frame, got {frames}")
    if easing not in EASINGS:
        raise InputError(f"easing must be one of {', '.join(EASINGS)}, got {easing!r}")
    phase = torch.arange(frames, dtype=torch.float64) / (frames if loop else max(frames - 1, 1))
    if easing == "slow ends":
        phase = phase * phase * (3 - 2 * phase)
    turn = 2 * math.pi * phase
    level = torch.zeros_like(phase)
    if kind == "sweep":
        return orbit_cameras(yaw_range_deg * _side(phase, easing, loop), level, rig)
    if kind == "orbit":
        return orbit_cameras(360 * phase, level, rig)
    if kind == "ellipse":
        return orbit_cameras(
            yaw_range_deg * torch.sin(turn), pitch_range_deg * torch.cos(turn), rig
        )
    raise InputError(f"turntable kind must be sweep, orbit or ellipse, got {kind!r}")


def _side(phase: Tensor, easing: str, loop: bool) -> Tensor:  # [V] in 0..1 -> [V] in -1..1
    """Return how far a sweep is to the right: 0, 1, 0, -1 and back, or once from -1 to 1."""
    if not loop:
        return 2 * phase - 1
    if easing == "even":
        # a triangle wave through 0 at 0, 1 at 1/4, -1 at 3/4
        return 4 * ((phase + 0.75) % 1 - 0.5).abs() - 1
    return torch.sin(2 * math.pi * phase)


def eg3d_look_at(
    horizontal: Tensor | Sequence[float],  # [V], EG3D's h: pi/2 is the front, more is towards +x
    vertical: Tensor | Sequence[float],  # [V], EG3D's v: pi/2 is level, less is higher
    *,
    radius: float,  # scene units
    pivot: Sequence[float],  # scene units
) -> Tensor:
    """Return cam_to_world [V,4,4] exactly as EG3D places cameras for its (h, v).

    v is not an angle (height = radius (1 - 2v/pi)), and the circle is centred on the scene origin;
    the pivot is only looked at.
    """
    h = torch.as_tensor(horizontal, dtype=torch.float64).reshape(-1)
    v = torch.as_tensor(vertical, dtype=torch.float64).reshape(-1).clamp(1e-5, math.pi - 1e-5)
    phi = torch.arccos(1 - 2 * v / math.pi)
    position = radius * torch.stack(
        [
            torch.sin(phi) * torch.cos(math.pi - h),
            torch.cos(phi),
            torch.sin(phi) * torch.sin(math.pi - h),
        ],
        dim=-1,
    )
    target = torch.tensor([float(x) for x in pivot], dtype=torch.float64)
    return look_at_matrix(position, target).float()
