"""CLIP scores of a portrait: plain arithmetic on features of length one (`models/clip.py`).

E(x) are features of pictures, T of texts; every one is normalised before anything is subtracted,
as in the evaluation of InstructPix2Pix and Instruct-NeRF2NeRF. All results are raw cosines.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ShapeError

TEMPLATE = "a photo of {style}"
NEUTRAL = "a photo of a person"  # t0: what the head is before any style
WEAK_GAIN = 0.02  # of clip_gain: below, the words are hardly seen in the portrait
_UNIT = 1e-3  # how far from one the length of a feature may be
_STILL = 1e-6  # a change shorter than this has no direction


def clip_text(images: Tensor, text: Tensor) -> float:
    """Return the mean cosine of pictures [N,D] with one text [D] or [1,D]: mean_i E(x_i) . t."""
    text = _one(text)
    _check(images, text)
    return float((images @ text[0]).mean())


def clip_gain(
    images: Tensor,  # [N,D], of the styled portrait
    originals: Tensor,  # [M,D], of the unstyled one
    text: Tensor,  # [D] or [1,D]
) -> float:
    """Return by how much the style brought the pictures nearer to the text."""
    return clip_text(images, text) - clip_text(originals, text)


def clip_direction(
    images: Tensor,  # [N,D]
    originals: Tensor,  # [N,D], of the same cameras
    text: Tensor,  # [D] or [1,D], t1
    neutral: Tensor,  # [D] or [1,D], t0
) -> float:
    """Return mean_i cos(E(x_i) - E(o_i), t1 - t0): whether pictures change as the words do.

    A picture that does not change at all has no direction and counts as 0.
    """
    text, neutral = _one(text), _one(neutral)
    _check(images, originals, text, neutral)
    _check_pairs(images, originals)
    return float((_direction(images - originals) @ _direction(text - neutral)[0]).mean())


def clip_consistency(
    images: Tensor,  # [N,D], frames of a closed path, in order
    originals: Tensor,  # [N,D], of the same cameras
) -> float:
    """Return the mean cosine of neighbouring frames' changes; the last one neighbours the first."""
    _check(images, originals)
    _check_pairs(images, originals)
    if len(images) < 2:
        raise ShapeError(f"consistency needs at least 2 frames, got {len(images)}")
    change = _direction(images - originals)
    return float((change * change.roll(-1, 0)).sum(1).mean())


def clip_min_pair(images: Tensor) -> tuple[float, int, int]:
    """Return the least cosine between two of the pictures [N,D], and which two they are."""
    _check(images)
    if len(images) < 2:
        raise ShapeError(f"a pair needs at least 2 pictures, got {len(images)}")
    first, second = torch.triu_indices(len(images), len(images), offset=1)
    cosines = (images @ images.T)[first, second]
    least = int(cosines.argmin())
    return float(cosines[least]), int(first[least]), int(second[least])


def clip_identity(images: Tensor, originals: Tensor) -> float:
    """Return the mean cosine of pictures [N,D] with the original's [N,D] of the same cameras."""
    _check(images, originals)
    _check_pairs(images, originals)
    return float((images * originals).sum(1).mean())


def _direction(change: Tensor) -> Tensor:
    length = change.norm(dim=1, keepdim=True)
    return torch.where(length < _STILL, torch.zeros_like(change), F.normalize(change, dim=1))


def _one(text: Tensor) -> Tensor:
    return text[None] if text.ndim == 1 else text


def _check_pairs(images: Tensor, originals: Tensor) -> None:
    if len(images) != len(originals):
        raise ShapeError(
            f"pictures and originals are compared one by one: got {len(images)} and "
            f"{len(originals)}; render both with the same cameras"
        )


def _check(*features: Tensor) -> None:
    width = features[0].shape[-1]
    for value in features:
        if value.ndim != 2 or value.shape[-1] != width or not len(value):
            raise ShapeError(
                f"CLIP features are [N,{width}] from one model, got {tuple(value.shape)}"
            )
        lengths = value.norm(dim=1)
        if not bool(((lengths - 1).abs() < _UNIT).all()):
            raise ShapeError(
                f"CLIP features must have length one, got {float(lengths.min()):.3g} to "
                f"{float(lengths.max()):.3g}; take them from Clip.encode_images or encode_texts"
            )
