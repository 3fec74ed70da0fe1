"""Find faces and five points of each: the cascade of MTCNN, written from its paper.

Pixel coordinates have their origin at the top left corner of the picture, x to the right. Boxes are
[N,4]: left, top, right, bottom.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import check_numbers
from ..errors import InputError, ShapeError
from ..models.mtcnn import CELL, MTCNN, O_PIXELS, R_PIXELS, STRIDE

POINT_NAMES = ("left eye", "right eye", "nose", "left mouth corner", "right mouth corner")
MOST_PIXELS = 1280  # larger pictures are looked at at this size: faces below a 64th are not found
PATCHES_AT_ONCE = 256


@dataclass(frozen=True)
class Face:
    """A face of a picture; left and right are the picture's."""

    points: Tensor  # [5,2] float64, pixels, in the order of POINT_NAMES
    box: Tensor  # [4] float64, pixels
    score: float  # 0 to 1, how sure the detector is; 1 for points that were given


@dataclass(frozen=True)
class DetectSettings:
    """Limits of the cascade; the thresholds of P, R and O are the published ones."""

    least_pixels: float = 20.0  # side of the smallest face
    pyramid: float = 0.709  # from one scale to the next: half the area
    propose: float = 0.6
    refine: float = 0.7
    output: float = 0.8

    def __post_init__(self) -> None:
        check_numbers(self)
        if not self.least_pixels >= CELL:
            raise InputError(f"least_pixels must be at least {CELL}, got {self.least_pixels}")
        if not 0 < self.pyramid < 1:
            raise InputError(f"pyramid must lie between 0 and 1, got {self.pyramid}")
        for name in ("propose", "refine", "output"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must be from 0 to 1, got {getattr(self, name)}")


@torch.no_grad()
def detect_faces(
    image: Tensor,  # [3,H,W] in [0,1], or uint8
    net: MTCNN,
    settings: DetectSettings | None = None,
) -> list[Face]:
    """Return the faces of a picture, the largest first.

    Raises ShapeError for a picture of another shape.
    """
    settings = settings or DetectSettings()
    if image.ndim != 3 or image.shape[0] != 3:
        raise ShapeError(f"faces are sought in a picture [3,H,W], got {tuple(image.shape)}")
    x = (_reduced(image).to(next(net.parameters()))[None] * 255 - 127.5) / 128
    boxes, _ = _proposed(x, net, settings)
    boxes, _ = _refined(x, boxes, net, settings)
    boxes, points, scores = _marked(x, boxes, net, settings)
    # to the pixels of the whole picture, along each axis by what rounding made of the reduction
    back = torch.tensor([s / t for s, t in zip(image.shape[:0:-1], x.shape[:1:-1], strict=True)])
    points, boxes = points.cpu().double() * back, boxes.cpu().double() * back.repeat(2)
    faces = [Face(p, b, float(s)) for p, b, s in zip(points, boxes, scores, strict=True)]
    return sorted(faces, key=lambda face: -area(face.box))


def _reduced(image: Tensor) -> Tensor:  # [3,H,W]
    """Return the picture in [0,1], no larger than what is looked at."""
    scale = MOST_PIXELS / max(image.shape[1:])
    if scale < 1:  # bytes stay bytes: a picture may be large
        size = [max(1, round(side * scale)) for side in image.shape[1:]]
        image = F.interpolate(image[None], size=size, mode="bilinear", antialias=True)[0]
    return image.float() / 255 if image.dtype == torch.uint8 else image


def area(box: Tensor) -> float:
    """Return the area of a box [4], square pixels."""
    return float((box[2] - box[0]) * (box[3] - box[1]))


def _proposed(x: Tensor, net: MTCNN, settings: DetectSettings) -> tuple[Tensor, Tensor]:
    found, scores = [x.new_zeros(0, 4)], [x.new_zeros(0)]
    scale = CELL / settings.least_pixels
    while min(x.shape[2:]) * scale >= CELL:
        face, offsets = net.propose(resized_by_area(x, scale))
        rows, columns = (face[0] > settings.propose).nonzero().unbind(1)
        corner = torch.stack([columns, rows], 1) * STRIDE
        cells = torch.cat([corner + 1, corner + CELL], 1).to(x)
        cells = cells + offsets[0, :, rows, columns].T * (CELL - 1)
        own = face[0, rows, columns]
        kept = suppressed(cells, own, 0.5)
        found.append(cells[kept] / scale)
        scores.append(own[kept])
        scale *= settings.pyramid
    boxes, score = torch.cat(found), torch.cat(scores)
    kept = suppressed(boxes, score, 0.7)
    return _squares(boxes[kept]), score[kept]


def _refined(
    x: Tensor, boxes: Tensor, net: MTCNN, settings: DetectSettings
) -> tuple[Tensor, Tensor]:
    parts = [net.refine(patches(x, b, R_PIXELS)) for b in boxes.split(PATCHES_AT_ONCE)]
    if not len(boxes):
        return boxes, boxes.new_zeros(0)
    scores, offsets = (torch.cat(part) for part in zip(*parts, strict=True))
    boxes = _moved(boxes, offsets)
    sure = scores > settings.refine
    boxes, scores = boxes[sure], scores[sure]
    kept = suppressed(boxes, scores, 0.7)
    return _squares(boxes[kept]), scores[kept]


def _marked(
    x: Tensor, boxes: Tensor, net: MTCNN, settings: DetectSettings
) -> tuple[Tensor, Tensor, Tensor]:
    """Return boxes [N,4], points [N,5,2] and scores [N]."""
    if not len(boxes):
        return boxes, boxes.new_zeros(0, 5, 2), boxes.new_zeros(0)
    parts = [net.output(patches(x, b, O_PIXELS)) for b in boxes.split(PATCHES_AT_ONCE)]
    scores, offsets, shares = (torch.cat(part) for part in zip(*parts, strict=True))
    points = shares.reshape(-1, 2, 5).transpose(1, 2) * (boxes[:, 2:] - boxes[:, :2] + 1)[:, None]
    points = points + boxes[:, None, :2] - 1
    boxes = _moved(boxes, offsets)
    sure = scores > settings.output
    boxes, points, scores = boxes[sure], points[sure], scores[sure]
    kept = suppressed(boxes, scores, 0.7, of_smaller=True)
    return boxes[kept], points[kept], scores[kept]


def resized_by_area(x: Tensor, scale: float) -> Tensor:  # [N,C,H,W]
    """Return the picture at `scale`; a pixel is the mean of what it covers, in parts of pixels."""
    rows, columns = (_cover(n, max(1, int(n * scale))).to(x) for n in x.shape[2:])
    return rows @ x @ columns.T


def _cover(inputs: int, outputs: int) -> Tensor:
    """Return [outputs,inputs]: how much of each output lies on each input; rows sum to 1."""
    edges = torch.arange(outputs + 1, dtype=torch.float64) * (inputs / outputs)
    at = torch.arange(inputs, dtype=torch.float64)
    low, high = edges[:-1, None], edges[1:, None]
    shared = (torch.minimum(high, at + 1) - torch.maximum(low, at)).clamp_min(0)
    return (shared / shared.sum(1, keepdim=True)).float()


def patches(
    x: Tensor,  # [1,3,H,W]
    boxes: Tensor,  # [N,4]
    side: int,
) -> Tensor:
    """Return what lies in the boxes, [N,3,side,side], zero outside of the picture."""
    size = x.new_tensor([x.shape[3], x.shape[2]])
    corner, extent = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    share = torch.linspace(0, 1, side, device=x.device, dtype=x.dtype)
    at = corner[:, None] + extent[:, None] * share[None, :, None]  # [N,side,2]
    grid = at / size * 2 - 1  # corners of the picture are the middles of its outermost pixels
    columns, rows = grid.unbind(-1)
    grid = torch.stack(
        [columns[:, None].expand(-1, side, -1), rows[:, :, None].expand(-1, -1, side)], -1
    )
    many = x.expand(len(boxes), -1, -1, -1)
    cut = F.grid_sample(many, grid, align_corners=True, padding_mode="zeros")
    inside = (grid.abs() <= 1).all(-1)
    return cut * inside[:, None]


def _moved(boxes: Tensor, offsets: Tensor) -> Tensor:
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    return boxes + offsets * sides.repeat(1, 2)


def _squares(boxes: Tensor) -> Tensor:
    sides = boxes[:, 2:] - boxes[:, :2]
    corner = boxes[:, :2] + sides / 2 - sides.amax(1, keepdim=True) / 2
    return torch.cat([corner, corner + sides.amax(1, keepdim=True)], 1)


def suppressed(
    boxes: Tensor,  # [N,4]
    scores: Tensor,  # [N]
    most_shared: float,
    *,
    of_smaller: bool = False,  # share of the smaller box, not of both together
) -> Tensor:
    """Return which boxes stay, best first: those that no better one covers more than allowed."""
    order = scores.argsort(descending=True, stable=True)
    a = boxes[order]
    sides = a[:, 2:] - a[:, :2]
    sizes = sides.prod(1)
    low = torch.maximum(a[:, None, :2], a[None, :, :2])
    high = torch.minimum(a[:, None, 2:], a[None, :, 2:])
    shared = (high - low).clamp_min(0).prod(2)
    both = torch.minimum(sizes[:, None], sizes[None])
    if not of_smaller:
        both = sizes[:, None] + sizes[None] - shared
    covered = (shared / both > most_shared).triu(1)
    return order[~covered.any(0)]


def check_finite_points(points: Tensor) -> None:
    """Raise InputError unless points [5,2] are finite numbers of pixels, no two in one place."""
    if tuple(points.shape) != (5, 2) or not bool(points.isfinite().all()):
        raise InputError(f"a face has five points x, y, got {tuple(points.shape)}")
    if float(torch.pdist(points.double()).min()) < 1e-3:
        raise InputError("two of the five points are in the same place; each marks its own feature")
