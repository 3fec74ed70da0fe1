"""Perceptual distance from a small convolutional network, where VGG weights are absent.

`PerceptualNet` is trained to name the style and the identity of a portrait; the activations of
its stages are features in which two pictures of the same thing are close. `PerceptualDistance`
compares them as LPIPS does: unit length over channels, squared difference, averaged.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import Conv2d, Linear

from ..errors import InputError, ShapeError
from .config import config_from_dict


@dataclass(frozen=True)
class PerceptualConfig:
    """Sizes of the feature network: one stage per entry, each half the size of the last."""

    channels: tuple[int, ...] = (16, 32, 64, 96, 128)
    styles: int = 1  # number of style classes of the training head
    identity: int = 1  # number of identity values of the training head
    name: str = "perceptual"
    licence: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        if not self.channels or min(self.channels) < 1:
            raise InputError(f"perceptual channels must be positive, got {self.channels}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "channels": list(self.channels)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PerceptualConfig:
        """Return the config that `to_dict` described; unknown names are errors."""
        return config_from_dict(cls, values)


class PerceptualNet(nn.Module):
    """Stages of convolutions over an image in [0,1], with heads for style and identity."""

    def __init__(self, config: PerceptualConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.channels
        self.stages = nn.ModuleList([_convs(3, widths[0], widths[0] // 2, stride=1)])
        for before, after in itertools.pairwise(widths):
            self.stages.append(_convs(before, after, after, stride=2))
        self.style = Linear(2 * widths[-1], config.styles)
        self.identity = Linear(2 * widths[-1], config.identity)

    def features(self, image: Tensor) -> list[Tensor]:
        """Return the activations of every stage for images [B,3,H,W] in [0,1]."""
        smallest = 2 ** (len(self.stages) - 1)
        if image.ndim != 4 or image.shape[1] != 3 or min(image.shape[2:]) < smallest:
            raise ShapeError(
                f"perceptual features need images [B,3,H,W] of at least {smallest} pixels, got "
                f"{tuple(image.shape)}"
            )
        x = image * 2 - 1
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return style logits [B,styles] and identity values [B,identity]."""
        top = self.features(image)[-1]
        pooled = torch.cat([top.mean((2, 3)), top.amax((2, 3))], dim=1)
        return self.style(pooled), self.identity(pooled)


class PerceptualDistance(nn.Module):
    """Distance [B] between two image batches in the features of a frozen copy of `net`."""

    def __init__(
        self,
        net: PerceptualNet,
        name: str = "perceptual features",  # what records call it
    ) -> None:
        super().__init__()
        self.net = copy.deepcopy(net).requires_grad_(False)
        self.name = name

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        if a.shape != b.shape:
            raise ShapeError(
                f"perceptual distance needs two batches of one shape, got {tuple(a.shape)} and "
                f"{tuple(b.shape)}"
            )
        return self.between(self.features_of(a), self.features_of(b))

    def features_of(self, images: Tensor) -> list[Tensor]:
        """Return the maps that are compared, [B,c,h,w] of unit length over channels."""
        return [_unit(x) for x in self.net.features(images)]

    def between(self, features: list[Tensor], others: list[Tensor]) -> Tensor:
        """Return the distances [B] of images with these features."""
        terms = [
            (x - y).square().sum(1).mean((1, 2)) for x, y in zip(features, others, strict=True)
        ]
        return torch.stack(terms).mean(0)


def _convs(inputs: int, outputs: int, middle: int, *, stride: int) -> nn.Sequential:
    layers = [Conv2d(inputs, middle, 3, stride, 1), Conv2d(middle, outputs, 3, 1, 1)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, a=0.1)
        assert layer.bias is not None  # Conv2d makes one
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.LeakyReLU(0.1), layers[1], nn.LeakyReLU(0.1))


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x, dim=1, eps=1e-4)
