"""The 468 landmarks of a face in space, and how they say that the head is turned.

Five points tell yaw and roll, but not pitch: a long nose or a smile moves them as looking down does
(docs/photo.md). A mesh of the whole face knows better. The network (`models/face_mesh.py`) looks at
an upright square about the face. Where that lies comes from the five points of the detector first
and from the landmarks themselves afterwards, so that the detector's box does not matter.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.face_mesh import PIXELS, FaceMesh
from ..types import CameraRig
from .crop import cropped

ROUNDS = 3  # each looks where the landmarks of the one before are
REACH = 1.5  # sides of the square for one of the face, as the network was trained
FACE_OF_POINTS = 2.6  # side of a face for the extent of its five points
ROOM = 1.5  # sides of a level square that holds every leaning one, for one of these
SURE = 0.5  # certainty from which on it is a face
EYES = (33, 263)  # outer corners: the picture's left and right


@torch.no_grad()
def landmarks_of(
    image: Tensor,  # [3,H,W] in [0,1], or uint8
    points: Tensor,  # [5,2], pixels: the detector's
    net: FaceMesh,
) -> tuple[Tensor, float]:
    """Return landmarks [468,3] float64 and the certainty of a face from 0 to 1.

    Landmarks are pixels of the picture; z points away from the camera on the same scale. Below SURE
    they mean nothing.
    """
    points = points.double()
    low, high = points.amin(0), points.amax(0)
    side = float((high - low).max()) * FACE_OF_POINTS
    eyes, score = points[:2], 0.0
    middle, landmarks = (low + high) / 2, points
    for _ in range(ROUNDS):
        angle = math.atan2(*(eyes[1] - eyes[0]).flip(0).tolist())
        square = _upright(image, middle, side * REACH, angle)
        found, certainty = net(square.to(next(net.parameters())))
        landmarks = _back(found[0].double().cpu(), middle, side * REACH, angle)
        score = float(certainty)
        if score < SURE:
            break
        flat = landmarks[:, :2]
        low, high = flat.amin(0), flat.amax(0)
        middle, side, eyes = (low + high) / 2, float((high - low).max()), flat[list(EYES)]
    return landmarks, score


def turn_of(
    landmarks: Tensor,  # [K,3] as shares of the crop: x, y, and z on the same scale
    usual: Tensor,  # [K,3], those of the usual face that looks along +z: x right, y up
    rig: CameraRig,  # of the camera of the crop
) -> Tensor:
    """Return the head's rotation [3,3] float64, from the usual face to axes x right, y up, z near.

    Least squares over rotation, scale and place (Kabsch 1976), after the perspective is undone.
    """
    seen, known = in_space(landmarks, rig), usual.double()
    seen, known = seen - seen.mean(0), known - known.mean(0)
    left, _, right = torch.linalg.svd(seen.T @ known)
    mirror = torch.ones(3, dtype=torch.float64)
    mirror[2] = torch.linalg.det(left @ right)
    return left @ torch.diag(mirror.sign()) @ right


def in_space(landmarks: Tensor, rig: CameraRig) -> Tensor:
    """Return landmarks [K,3] of a crop, as shares, in space: x right, y up, z near; float64."""
    landmarks = landmarks.double()
    depth = rig.radius * (1 + landmarks[:, 2] / rig.focal)
    flat = (landmarks[:, :2] - 0.5) * depth[:, None] / rig.focal
    return torch.stack([flat[:, 0], -flat[:, 1], -depth], 1)


def _turn(angle: float) -> Tensor:
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)


def _upright(image: Tensor, middle: Tensor, side: float, angle: float) -> Tensor:
    """Return the square [1,3,192,192] in [0,1] about `middle` [2] that leans by an angle."""
    around = side * ROOM
    left, top = (middle - around / 2).tolist()
    level = cropped(image, left, top, around, round(PIXELS * ROOM), white=False)
    share = (torch.arange(PIXELS, dtype=torch.float64) + 0.5) / PIXELS - 0.5
    rows, columns = torch.meshgrid(share, share, indexing="ij")
    at = torch.stack([columns, rows], -1) @ _turn(angle).T
    grid = (at * 2 / ROOM)[None].to(level)
    return F.grid_sample(level[None], grid, align_corners=False)


def _back(found: Tensor, middle: Tensor, side: float, angle: float) -> Tensor:
    """Return landmarks [K,3] of the square in pixels of the picture."""
    scaled = found * (side / PIXELS)
    flat = (scaled[:, :2] - side / 2) @ _turn(angle).T + middle
    return torch.cat([flat, scaled[:, 2:]], 1)
