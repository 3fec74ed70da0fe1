"""Points of a face that do not come from our detector: marked by hand, or found by MediaPipe."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from .align import face_of_points
from .detect import Face, area

# of MediaPipe's 478: middles of both irises, tip of the nose, corners of the mouth
MEDIAPIPE = (468, 473, 1, 61, 291)
MEDIAPIPE_POINTS = 478
_FOREIGN = "the face landmarks are not those of ComfyUI's MediaPipe Face Landmarker"
_WANTED = 'five points "x,y x,y x,y x,y x,y": left eye, right eye, nose, both mouth corners'


def read_points(
    text: str,
    size: Sequence[int],  # height and width of the photograph
) -> Tensor:
    """Return the five points [5,2] of a text, pixels; numbers of at most 1 are shares of the sides.

    Raises InputError for another number of points, and for points outside of the photograph.
    """
    words = re.split(r"[\s,;()\[\]]+", text.strip(" \t\r\n,;()[]"))
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        raise InputError(f"{_WANTED}, got {text!r:.60}") from None
    if len(numbers) != 10 or not all(map(math.isfinite, numbers)):
        raise InputError(f"{_WANTED}, got {len(numbers)} numbers")
    points = torch.tensor(numbers, dtype=torch.float64).reshape(5, 2)
    extent = torch.tensor([float(size[1]), float(size[0])], dtype=torch.float64)
    if float(points.max()) <= 1:
        points = points * extent
    if float(points.min()) < 0 or bool((points > extent).any()):
        raise InputError(
            f"the points must lie in the picture of {size[1]} x {size[0]} pixels, got {text!r:.80}"
        )
    return points


def faces_of_landmarks(
    found: Any,  # FACE_LANDMARKS of ComfyUI: {"frames": [[{"landmarks_xy": [478,2], ...}]]}
    frame: int = 0,
) -> list[Face]:
    """Return the faces of one picture in MediaPipe's landmarks, the largest first.

    Raises InputError for anything else; a picture without a face gives none.
    """
    faces = []
    for entry in _entries(found, frame):
        points, score = _numbers(entry)
        if points.ndim != 2 or len(points) < MEDIAPIPE_POINTS:
            raise InputError(
                f"a face has {MEDIAPIPE_POINTS} landmarks, got {tuple(points.shape)}; use the "
                "MediaPipe Face Landmarker"
            )
        own = face_of_points(points[list(MEDIAPIPE), :2])
        box = torch.cat([points[:, :2].amin(0), points[:, :2].amax(0)])
        faces.append(Face(own.points, box, score))
    return sorted(faces, key=lambda face: -area(face.box))


def _entries(found: Any, frame: int) -> Sequence[Any]:
    frames = found.get("frames") if isinstance(found, Mapping) else None
    if not isinstance(frames, Sequence) or not 0 <= frame < len(frames):
        raise InputError(_FOREIGN)
    entries = frames[frame]
    if not isinstance(entries, Sequence):
        raise InputError(_FOREIGN)
    return entries


def _numbers(entry: Any) -> tuple[Tensor, float]:
    """Return the landmarks of a face and how sure MediaPipe is."""
    try:
        points = torch.as_tensor(entry["landmarks_xy"]).double()
        return points, float(entry.get("score", 1.0))
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        raise InputError(_FOREIGN) from None
