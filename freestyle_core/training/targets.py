"""The pictures that a training run compares with, and what need be computed of them only once."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from .losses import Perceptual

KEEP_MB = 1024  # features of the targets, at most; more are computed when needed
# of values of at most 1: half the memory, and errors of 0.0005 where features differ by 0.1
KEPT = torch.float16


@runtime_checkable
class FeatureDistance(Protocol):
    """A perceptual distance that compares features, which can be kept."""

    def features_of(self, images: Tensor) -> list[Tensor]:
        """Return the features of images [B,3,H,W], each [B,...]."""

    def between(self, features: list[Tensor], others: list[Tensor]) -> Tensor:
        """Return the distances [B] of images with these features."""


class Targets:
    """Pictures [T,3,H,W] in [0,1], and eq. 5 against some of them."""

    def __init__(self, images: Tensor, perceptual: Perceptual, *, keep_mb: float = KEEP_MB) -> None:
        self.images, self.perceptual = images, perceptual
        self._features: list[Tensor] | None = None
        if isinstance(perceptual, FeatureDistance):
            self._features = _features(perceptual, images, keep_mb)

    def loss(self, image: Tensor, rows: Tensor) -> Tensor:  # [B,3,H,W], [B]
        """Return eq. 5: the mean |image - target| plus the mean perceptual distance."""
        target = self.images.index_select(0, rows)
        distance: Any = self.perceptual
        if self._features is None:
            perceptual = distance(image, target)
        else:
            features = distance.features_of(image)
            kept = [maps.index_select(0, rows) for maps in self._features]
            perceptual = distance.between(features, kept)
        return F.l1_loss(image, target) + perceptual.mean()


@torch.no_grad()
def _features(distance: FeatureDistance, images: Tensor, keep_mb: float) -> list[Tensor] | None:
    first = distance.features_of(images[:1])
    if sum(x.numel() for x in first) * KEPT.itemsize * len(images) > keep_mb * 2**20:
        return None
    kept = [x.new_empty(len(images), *x.shape[1:], dtype=KEPT) for x in first]
    for row in range(len(images)):  # each goes to its place at once: never all of them twice
        own = first if row == 0 else distance.features_of(images[row : row + 1])
        for maps, values in zip(kept, own, strict=True):
            maps[row] = values[0]
    return kept
