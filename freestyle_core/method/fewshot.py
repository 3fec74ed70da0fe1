"""Build the few-shot set D_s (paper Alg. 1): the edited views of one identity, checked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError, MismatchError, ShapeError
from ..types import CameraBatch, FewShotSet, Portrait

TOLERANCE = 0.02  # images may leave [0,1] by this much (resampling overshoot) before it is an error


def few_shot_set(
    portrait: Portrait,
    images: Tensor,  # [V,3,H,W], in [0,1]: the edited renderings, in the order of the cameras
    cameras: CameraBatch,  # V
    prompt: str,
    *,
    front: int = 0,  # index of the front view
) -> FewShotSet:
    """Return the checked set, its images at the portrait's image size."""
    if not prompt.strip():
        raise InputError("the few-shot set has an empty prompt; say what the style is")
    _check_images(images, cameras)
    if not 0 <= front < len(cameras):
        raise InputError(f"front view {front} is not among the {len(cameras)} views; use 0")
    size = portrait.renderer.config.image_resolution
    if images.shape[-1] != size:
        images = F.interpolate(images, size=(size, size), mode="bicubic", antialias=True)
    return FewShotSet(images.float().clamp(0, 1), cameras, front, prompt)


def check_few_shot(sets: Sequence[FewShotSet], portraits: Sequence[Portrait], size: int) -> None:
    """Raise unless there is one set per portrait, each finite and at the I2T's image size."""
    if not sets or len(sets) != len(portraits):
        raise InputError(
            f"got {len(sets)} few-shot sets for {len(portraits)} portraits; give one set for each "
            "portrait, and at least one"
        )
    for few_shot in sets:
        _check_images(few_shot.images, few_shot.cameras)
        if few_shot.images.shape[-1] != size:
            raise MismatchError(
                f"the few-shot images are {few_shot.images.shape[-1]} pixels wide, but this I2T "
                f"works at {size}; use the portrait, I2T and generator that belong together"
            )


def _check_images(images: Tensor, cameras: CameraBatch) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
        raise ShapeError(f"few-shot images must be square [V,3,H,H], got {tuple(images.shape)}")
    if images.shape[0] != len(cameras):
        raise ShapeError(
            f"got {images.shape[0]} images for {len(cameras)} cameras; edit every rendered view, "
            "and keep their order"
        )
    if not bool(torch.isfinite(images).all()):
        raise ShapeError("few-shot images contain NaN or infinite values; run the edit again")
    low, high = float(images.min()), float(images.max())
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise ShapeError(
            f"few-shot images must lie in [0,1], got {low:.3g} to {high:.3g}; divide 8-bit images "
            "by 255"
        )
