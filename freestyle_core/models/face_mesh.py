"""The face mesh of MediaPipe: 468 landmarks in space of one face, from a crop of it.

"Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs" (Kartynnik et al., 2019).
The layers are those of the file `face_landmark.tflite` of the package `mediapipe` 0.10.21, whose
weights `benchmarks/convert_face_mesh.py` brings here; `photo/landmarks.py` cuts the crops.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ShapeError
from .config import PublishedConfig

PIXELS = 192  # side of the crops
LANDMARKS = 468
# width of every residual block; one that halves the picture is marked by its place in HALVING
TRUNK = (16, 16, 32, 32, 32, 64, 64, 64, 128, 128, 128, 128, 128, 128)
HALVING = (2, 5, 8, 11)
FACE_WIDTH = 32  # of the last layers


class Block(nn.Module):
    """A depthwise and a pointwise convolution beside a straight way, [N,C,H,W] to [N,C',H',W']."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.stride, self.more = stride, outputs - inputs
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, groups=inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1)
        self.prelu = nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        change = self.pointwise(self.depthwise(_padded(x, self.stride)))
        if self.stride == 2:
            x = F.max_pool2d(x, 2)
        # channels that are new have nothing to go straight
        return self.prelu(F.pad(x, (0, 0, 0, 0, 0, self.more)) + change)


class FaceMesh(nn.Module):
    """Crops [N,3,192,192] in [0,1] to landmarks [N,468,3] and the certainty of a face [N].

    Landmarks are in pixels of the crop: x to the right, y down, z away from the camera on the same
    scale, zero at the middle of the head.
    """

    def __init__(self, config: PublishedConfig) -> None:
        super().__init__()
        self.config = config
        # the usual face, looking along +z: x right, y up; what a head's turn is measured against
        self.register_buffer("usual", torch.zeros(LANDMARKS, 3))
        self.usual: Tensor
        self.stem, self.prelu = nn.Conv2d(3, TRUNK[0], 3, 2), nn.PReLU(TRUNK[0])
        blocks, before = [], TRUNK[0]
        for place, width in enumerate(TRUNK):
            blocks.append(Block(before, width, 2 if place in HALVING else 1))
            before = width
        self.trunk = nn.Sequential(*blocks)
        wide = [Block(before, before) for _ in range(2)]
        self.mesh = nn.Sequential(Block(before, before, 2), *wide, *_head(before, 3 * LANDMARKS))
        self.face = nn.Sequential(Block(before, before, 2), *_head(before, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        if image.ndim != 4 or image.shape[1:] != (3, PIXELS, PIXELS):
            raise ShapeError(
                f"the face mesh looks at crops [N,3,{PIXELS},{PIXELS}], got {tuple(image.shape)}"
            )
        x = self.trunk(self.prelu(self.stem(_padded(image, 2))))
        landmarks = self.mesh(x).reshape(len(x), LANDMARKS, 3)
        return landmarks, self.face(x).flatten().sigmoid()


def _head(width: int, outputs: int) -> list[nn.Module]:
    return [
        nn.Conv2d(width, FACE_WIDTH, 1),
        nn.PReLU(FACE_WIDTH),
        Block(FACE_WIDTH, FACE_WIDTH),
        nn.Conv2d(FACE_WIDTH, outputs, 3),
    ]


def _padded(x: Tensor, stride: int) -> Tensor:
    """Pad as TensorFlow's "SAME" does: with a stride of 2 on even sides only after the end."""
    return F.pad(x, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
