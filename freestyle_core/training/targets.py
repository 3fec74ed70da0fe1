"""The pictures that a training run compares with, and what need be computed of them only once."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from .losses import Perceptual

KEEP_MB = 1024  # features of the targets, at most; more are computed when needed


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
            kept = [maps.index_select(0, rows) for maps in self._features]
            perceptual = distance.between(distance.features_of(image), kept)
        return F.l1_loss(image, target) + perceptual.mean()


@torch.no_grad()
def _features(distance: FeatureDistance, images: Tensor, keep_mb: float) -> list[Tensor] | None:
    first = distance.features_of(images[:1])
    if sum(x.nbytes for x in first) * len(images) > keep_mb * 2**20:
        return None
    rest = [distance.features_of(image) for image in images[1:].split(1)]
    return [torch.cat(maps) for maps in zip(first, *rest, strict=True)]
