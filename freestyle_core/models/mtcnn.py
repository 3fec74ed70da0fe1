"""The three networks of MTCNN, a face detector that also marks five points of each face.

"Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks" (Zhang et
al., 2016): P proposes boxes on every scale of a picture, R refines them, O refines them again and
places both eyes, the nose and both corners of the mouth. `photo/detect.py` runs the cascade; the
weights are those of the MIT package `mtcnn` (`benchmarks/convert_mtcnn.py`).

All take pictures [N,3,H,W] in [-1,1], RGB, and return the probability of a face first.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .config import PublishedConfig

R_PIXELS, O_PIXELS = 24, 48  # sides of the pictures that R and O take
CELL, STRIDE = 12, 2  # of P: what one of its places sees, and how far the next one lies, pixels


class ProposalNet(nn.Module):
    """P: [N,3,H,W], at least 12 pixels, to faces [N,h,w] and box offsets [N,4,h,w]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 10, 3), nn.PReLU(10)
        self.conv2, self.prelu2 = nn.Conv2d(10, 16, 3), nn.PReLU(16)
        self.conv3, self.prelu3 = nn.Conv2d(16, 32, 3), nn.PReLU(32)
        self.box, self.face = nn.Conv2d(32, 4, 1), nn.Conv2d(32, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.max_pool2d(self.prelu1(self.conv1(x)), 2, 2, ceil_mode=True)
        x = self.prelu3(self.conv3(self.prelu2(self.conv2(x))))
        return self.face(x).softmax(1)[:, 1], self.box(x)


class RefineNet(nn.Module):
    """R: [N,3,24,24] to faces [N] and box offsets [N,4]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 28, 3), nn.PReLU(28)
        self.conv2, self.prelu2 = nn.Conv2d(28, 48, 3), nn.PReLU(48)
        self.conv3, self.prelu3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
        self.full, self.prelu4 = nn.Linear(576, 128), nn.PReLU(128)
        self.box, self.face = nn.Linear(128, 4), nn.Linear(128, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.max_pool2d(self.prelu1(self.conv1(x)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu2(self.conv2(x)), 3, 2)
        x = _flat(self.prelu3(self.conv3(x)))
        x = self.prelu4(self.full(x))
        return self.face(x).softmax(1)[:, 1], self.box(x)


class OutputNet(nn.Module):
    """O: [N,3,48,48] to faces [N], box offsets [N,4] and points [N,10], all x before all y."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 32, 3), nn.PReLU(32)
        self.conv2, self.prelu2 = nn.Conv2d(32, 64, 3), nn.PReLU(64)
        self.conv3, self.prelu3 = nn.Conv2d(64, 64, 3), nn.PReLU(64)
        self.conv4, self.prelu4 = nn.Conv2d(64, 128, 2), nn.PReLU(128)
        self.full, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
        self.box, self.points, self.face = (nn.Linear(256, n) for n in (4, 10, 2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.max_pool2d(self.prelu1(self.conv1(x)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu2(self.conv2(x)), 3, 2)
        x = F.max_pool2d(self.prelu3(self.conv3(x)), 2, 2, ceil_mode=True)
        x = _flat(self.prelu4(self.conv4(x)))
        x = self.prelu5(self.full(x))
        return self.face(x).softmax(1)[:, 1], self.box(x), self.points(x)


class MTCNN(nn.Module):
    """The three networks; each is called on its own."""

    def __init__(self, config: PublishedConfig) -> None:
        super().__init__()
        self.config = config
        self.propose, self.refine, self.output = ProposalNet(), RefineNet(), OutputNet()


def _flat(x: Tensor) -> Tensor:
    # column by column, channels last: the order in which the weights were trained
    return x.permute(0, 3, 2, 1).flatten(1)
