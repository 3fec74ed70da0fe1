"""DINO as the scores use it: a direction for every place of a picture."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ShapeError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, RGB in [0,1]
PIXELS = 256  # side at which MEt3R looks at pictures
AT_ONCE = 8  # pictures in one pass


class Dino(nn.Module):
    """The patch features of a vision transformer (transformers' `ViTModel`)."""

    def __init__(self, model: Any, name: str) -> None:
        super().__init__()
        self.model, self.name = model, name

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Return features [N,C,h,h] of length one over channels, of images [N,3,H,H] in [0,1]."""
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
            raise ShapeError(f"{self.name} needs images [N,3,H,H], got {tuple(images.shape)}")
        return torch.cat([self._of(part) for part in images.split(AT_ONCE)])

    def _of(self, images: Tensor) -> Tensor:
        weight = next(self.model.parameters())
        patch = self.model.config.patch_size
        side = max(1, PIXELS // patch)
        pixels = F.interpolate(
            images.to(weight), size=(side * patch,) * 2, mode="bicubic", antialias=True
        ).clamp(0, 1)
        mean, std = (pixels.new_tensor(x).view(1, 3, 1, 1) for x in (MEAN, STD))
        out = self.model((pixels - mean) / std, interpolate_pos_encoding=True)
        patches = out.last_hidden_state[:, -side * side :]  # without the token of the whole
        maps = patches.transpose(1, 2).unflatten(2, (side, side))
        return F.normalize(maps.float(), dim=1)
