"""A photograph becomes a picture as the generator's own: crop and camera of one face.

The crop follows the recipe of EG3D's data: five points, a least-squares scale and place, one
resampling, and no turning of the picture (a leaning head keeps its roll; the camera leans).
The camera comes from the same points (`faces.camera_of_points`), its angles from the mesh of the
whole face (`landmarks.turn_of`). Where the generator's family has a framing network, all comes from
that: it moves the crop until the head is where the generator has its heads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError, ShapeError
from ..geometry.cameras import orbit_cameras
from ..models.config import EG3DConfig
from ..models.face_mesh import FaceMesh
from ..models.framing import FramingNet
from ..models.mtcnn import MTCNN
from ..types import CameraBatch, CameraRig
from .crop import cropped
from .detect import Face, check_finite_points, detect_faces
from .faces import CLAY, OFFICIAL, FaceModel, Pose, camera_of_points, fit_scale, pose_of
from .landmarks import SURE, landmarks_of, turn_of

MOST_TURN_DEG = 35.0  # further, a generator of portraits has to guess what it does not see
ROUNDS = 3  # of the framing network, each on a crop that the last one put right
MOST_PITCH_DEG = 80.0
LEAST_SIDE = 32  # pixels of a photograph


@dataclass(frozen=True)
class Aligned:
    """One face of a photograph, ready for the generator."""

    image: Tensor  # [3,S,S] in [0,1], S the generator's
    camera: CameraBatch  # one, which sees the generator's heads as the photograph shows its own
    pose: Pose
    faces: tuple[Face, ...]  # all that were found, the largest first
    index: int  # of the face that was taken
    crop: tuple[float, float, float]  # left, top and side of the square, pixels of the photograph
    notes: tuple[str, ...]  # what the user should know

    @property
    def is_turned_far(self) -> bool:
        """Whether the head is turned further than a generator of portraits knows."""
        return self.pose.turned_deg > MOST_TURN_DEG

    def report(self) -> str:
        """Return the angles, the choice and the warnings, a line each."""
        pose, face = self.pose, self.faces[self.index]
        found = "1 face" if len(self.faces) == 1 else f"{len(self.faces)} faces, the largest is 0"
        lines = [
            f"yaw {pose.yaw_deg:+.1f}, pitch {pose.pitch_deg:+.1f}, roll {pose.roll_deg:+.1f} "
            "degrees",
            f"{found}; taken: {self.index}, certainty {face.score:.2f}",
            f"the crop is {self.crop[2]:.0f} pixels of the photograph wide",
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


@torch.no_grad()
def align_photo(
    image: Tensor,  # [3,H,W] in [0,1], or uint8, the right way up
    config: EG3DConfig,  # of the generator that the crop is for
    *,
    detector: MTCNN | None = None,  # needed where no faces are given
    mesh: FaceMesh | None = None,  # without it the angles are those of five points
    framing: FramingNet | None = None,  # of the generator's family; then the mesh is not asked
    faces: Sequence[Face] | None = None,  # in place of what the detector finds
    index: int = 0,  # which face, 0 the largest
) -> Aligned:
    """Return the crop and the camera of a face.

    Raises InputError where there is no face, or no such face.
    """
    if image.ndim != 3 or image.shape[0] != 3:
        raise ShapeError(f"a photograph is [3,H,W], got {tuple(image.shape)}")
    if min(image.shape[1:]) < LEAST_SIDE:
        raise InputError(
            f"the picture is {image.shape[2]} x {image.shape[1]} pixels; a photograph needs at "
            f"least {LEAST_SIDE} each way"
        )
    if faces is None:
        if detector is None:
            raise InputError("got neither a face detector nor the points of a face; give one")
        faces = detect_faces(image, detector)
    face = _chosen(faces, index, image)
    model, rig = model_of(config), config.rig()
    scale, middle = fit_scale(face.points, model)
    side = scale / model.scale
    white = config.white_background
    if framing is None:
        corner = middle - side / 2
        turn = None if mesh is None else _turned(image, face, corner, side, mesh, rig)
        camera = camera_of_points((face.points - corner) / side, model, rig, turn)
        pose = pose_of(camera)
        cameras = _batch(camera, rig)
    else:
        middle, side, pose = _framed(image, middle, side, framing, white)
        cameras = posed_camera(pose, rig)
    left, top = (middle - side / 2).tolist()
    picture = cropped(image, left, top, side, config.image_resolution, white=white)
    notes = _notes(pose, side, config.image_resolution)
    return Aligned(picture, cameras, pose, tuple(faces), index, (left, top, side), notes)


def model_of(config: EG3DConfig) -> FaceModel:
    """Return how a generator shows a face: the clay family's way, or that of EG3D's FFHQ data."""
    return CLAY if config.name == "clay" else OFFICIAL


def posed_camera(pose: Pose, rig: CameraRig) -> CameraBatch:
    """Return the camera to which a head is turned like this."""
    cameras = orbit_cameras([pose.yaw_deg], [pose.pitch_deg], rig)
    angle = math.radians(pose.roll_deg)
    lean = torch.eye(4)
    lean[0, 0] = lean[1, 1] = math.cos(angle)
    lean[0, 1], lean[1, 0] = math.sin(angle), -math.sin(angle)
    return CameraBatch(cameras.cam_to_world @ lean, cameras.intrinsics)


def face_of_points(points: Tensor) -> Face:
    """Return a face of points [5,2] in pixels that somebody marked, after checking them."""
    points = points.double()
    check_finite_points(points)
    eyes, mouth = points[:2].mean(0), points[3:].mean(0)
    if not (points[0, 0] < points[1, 0] and eyes[1] < mouth[1]):
        raise InputError(
            "the five points are, as seen in the picture: left eye, right eye, nose, left and "
            "right corner of the mouth; got them in another order, or of a head upside down"
        )
    low, high = points.amin(0), points.amax(0)
    reach = (high - low).max() / 2
    return Face(points, torch.cat([low - reach, high + reach]), 1.0)


def _chosen(faces: Sequence[Face], index: int, image: Tensor) -> Face:
    if not faces:
        height, width = image.shape[1:]
        raise InputError(
            f"no face was found in the picture of {width} x {height} pixels; it has to be seen "
            "from the front, upright and not too small; or give its five points by hand"
        )
    if not 0 <= index < len(faces):
        count = "1 face" if len(faces) == 1 else f"{len(faces)} faces"
        raise InputError(f"face {index} was asked for, but the picture has {count}; 0 is the first")
    return faces[index]


def _turned(
    image: Tensor, face: Face, corner: Tensor, side: float, mesh: FaceMesh, rig: CameraRig
) -> Tensor | None:
    """Return the head's rotation [3,3], None where the mesh sees no face."""
    landmarks, certainty = landmarks_of(image, face.points, mesh)
    if certainty < SURE:
        return None
    landmarks[:, :2] -= corner
    return turn_of(landmarks / side, mesh.usual.cpu(), rig)


def _framed(
    image: Tensor, middle: Tensor, side: float, net: FramingNet, white: bool
) -> tuple[Tensor, float, Pose]:
    """Return the middle and side of the right crop, pixels, and the head's pose."""
    pixels = net.config.pixels
    said: list[float] = []
    for _ in range(ROUNDS):
        left, top = (middle - side / 2).tolist()
        crop = cropped(image, left, top, side, pixels, white=white)
        said = net(crop[None].to(next(net.parameters())))[0].tolist()
        middle = middle + torch.tensor(said[3:5], dtype=torch.float64) * side
        side = side * math.exp(said[5])
    yaw, pitch, roll = said[:3]
    return middle, side, Pose(yaw, max(-MOST_PITCH_DEG, min(MOST_PITCH_DEG, pitch)), roll)


def _batch(camera: Tensor, rig: CameraRig) -> CameraBatch:
    front = orbit_cameras([0.0], [0.0], rig)
    return CameraBatch(camera[None].to(front.cam_to_world), front.intrinsics)


def _notes(pose: Pose, side: float, pixels: int) -> tuple[str, ...]:
    notes = []
    if pose.turned_deg > MOST_TURN_DEG:
        notes.append(
            f"the head is turned away by {pose.turned_deg:.0f} degrees; beyond "
            f"{MOST_TURN_DEG:.0f} the other side of the face is guessed: a picture more from the "
            "front is better"
        )
    if side < pixels / 2:
        notes.append(
            f"the crop has {side:.0f} pixels where the generator draws {pixels}; the portrait "
            "will be soft"
        )
    return tuple(notes)
