"""Where five points of a face lie in space, and the camera that sees them: least squares.

A `FaceModel` says how a generator's pictures show a head: where the points are, and how large and
where they appear in a crop. `OFFICIAL` is the recipe of EG3D's FFHQ data; its points are those
that Deep3DFaceRecon aligns to. Both steps are written from their formulas.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..types import CameraRig

STEPS, DAMPING = 30, 1e-9  # of Gauss-Newton

# left eye, right eye, nose, left and right mouth corner: the picture's left and right
_STANDARD = (
    (-0.31149, 0.29036, 0.13378),
    (0.30980, 0.28972, 0.13180),
    (0.00325, -0.04618, 0.55244),
    (-0.25217, -0.38134, 0.22406),
    (0.24847, -0.38128, 0.22236),
)
# what the detector's points of 12 x 8 renders of the embedded generator agree on in space, mirrored
_CLAY = (
    (-0.0650, 0.0167, 0.1594),
    (0.0650, 0.0167, 0.1594),
    (0.0000, -0.0474, 0.2179),
    (-0.0514, -0.1144, 0.1693),
    (0.0514, -0.1144, 0.1693),
)


@dataclass(frozen=True)
class FaceModel:
    """Five points of the usual face, x to the picture's right, y up, z out of the face."""

    points: tuple[tuple[float, float, float], ...]  # in units of the model
    unit: float  # scene units
    origin: tuple[float, float, float]  # of the points, scene units
    scale: float  # crop sides per unit, as `fit_scale` finds it for a face of the right size
    distance: float  # of a camera from the origin, units; where the search for one begins

    def tensor(self) -> Tensor:
        """Return the points, [5,3] float64."""
        return torch.tensor(self.points, dtype=torch.float64)


# 300 of 700 pixels for a unit; the camera is 10 units away
OFFICIAL = FaceModel(_STANDARD, 0.27, (0.0, 0.006, 0.161), 300 / 700, 10.0)
CLAY = FaceModel(_CLAY, 1.0, (0.0, 0.0, 0.0), 1.72, 2.7)


@dataclass(frozen=True)
class Pose:
    """How a head is turned, in degrees; all 0 looks into the camera.

    It is also where the camera stands: yaw to the head's left and the picture's right, pitch above.
    Roll leans the head to the picture's right.
    """

    yaw_deg: float
    pitch_deg: float
    roll_deg: float

    @property
    def turned_deg(self) -> float:
        """Return the angle between where the face looks and the camera."""
        yaw, pitch = math.radians(self.yaw_deg), math.radians(self.pitch_deg)
        return math.degrees(math.acos(math.cos(yaw) * math.cos(pitch)))


def fit_scale(points: Tensor, model: FaceModel) -> tuple[float, Tensor]:
    """Return scale (as `points` per unit) and origin [2] of points [5,2], y down, in any measure.

    Least squares of two rows of an affine map, x = a.X + t (POS, Dementhon and Davis 1995); the
    scale is the mean length of the two rows.
    """
    known = torch.cat([model.tensor(), torch.ones(5, 1, dtype=torch.float64)], dim=1)
    rows = torch.linalg.lstsq(known, points.double()).solution  # [4,2]
    scale = float(rows[:3].norm(dim=0).mean())
    if not scale > 1e-6:
        raise InputError("the five points of the face lie in one place; mark each at its own")
    return scale, rows[3]


def camera_of_points(
    points: Tensor,  # [5,2], shares of the crop, y down
    model: FaceModel,
    rig: CameraRig,
    turn: Tensor | None = None,  # [3,3], the head's rotation, where it is known better
) -> Tensor:
    """Return cam_to_world [4,4] float64 of the camera that sees the points where they are.

    Gauss-Newton over rotation and translation, or translation alone. The position is then moved to
    the rig's radius along its line from the scene's origin, as in EG3D's data: how far away a
    photograph was taken is not to be seen in five points.
    """
    rotation, translation = _solved(points.double(), model, rig.focal, turn)
    away = torch.tensor([0.0, 0.0, model.distance], dtype=torch.float64)
    origin = torch.tensor(model.origin, dtype=torch.float64)
    position = rotation.T @ (away - translation) * model.unit + origin
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = rotation.T * torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)
    matrix[:3, 3] = position * (rig.radius / position.norm())
    return matrix


def projected(
    points: Tensor,  # [N,3] in front of the camera: x right, y up, z towards it
    distance: float,
    focal: float,
) -> Tensor:
    """Return [N,2], shares of the crop, y down."""
    depth = distance - points[:, 2:]
    return 0.5 + focal * points[:, :2] * points.new_tensor([1.0, -1.0]) / depth


def _solved(
    points: Tensor, model: FaceModel, focal: float, turn: Tensor | None
) -> tuple[Tensor, Tensor]:
    rotation = torch.eye(3, dtype=torch.float64) if turn is None else turn.double()
    translation = torch.zeros(3, dtype=torch.float64)
    flip = torch.tensor([1.0, -1.0], dtype=torch.float64)
    for _ in range(STEPS):
        turned = model.tensor() @ rotation.T
        at = turned + translation
        depth = model.distance - at[:, 2]
        if not bool((depth > 0.1 * model.distance).all()):
            raise InputError("the five points are not those of a face; mark each at its own place")
        rest = (points - projected(at, model.distance, focal)).flatten()
        # of the projection by the place in space, then by a small turn and a small move of the head
        by_place = torch.zeros(5, 2, 3, dtype=torch.float64)
        by_place[:, 0, 0] = by_place[:, 1, 1] = focal / depth
        by_place[:, :, 2] = focal * at[:, :2] / depth[:, None] ** 2
        by_place = by_place * flip[None, :, None]
        axes = torch.eye(3, dtype=torch.float64)
        by_turn = torch.stack(
            [torch.linalg.cross(axis.expand(5, 3), turned) for axis in axes], dim=2
        )
        slopes = torch.cat([by_place @ by_turn, by_place], dim=2).reshape(10, 6)
        if turn is not None:
            slopes[:, :3] = 0
        squared = slopes.T @ slopes + DAMPING * torch.eye(6, dtype=torch.float64)
        step = torch.linalg.solve(squared, slopes.T @ rest)
        rotation = _turn(step[:3]) @ rotation
        translation = translation + step[3:]
    return rotation, translation


def _turn(vector: Tensor) -> Tensor:
    """Return the rotation [3,3] about a vector [3] by its length in radians."""
    x, y, z = vector.tolist()
    cross = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]], dtype=torch.float64)
    return torch.matrix_exp(cross)


def pose_of(cam_to_world: Tensor) -> Pose:
    """Return how a head at the origin, which looks along +z, is turned to a camera [4,4]."""
    right, down, forward = cam_to_world[:3, :3].double().T
    yaw = math.atan2(-float(forward[0]), -float(forward[2]))
    pitch = math.asin(max(-1.0, min(1.0, -float(forward[1]))))
    level = torch.tensor([math.cos(yaw), 0.0, -math.sin(yaw)], dtype=torch.float64)
    roll = math.atan2(float(down @ level), float(right @ level))
    return Pose(*(math.degrees(angle) for angle in (yaw, pitch, roll)))
