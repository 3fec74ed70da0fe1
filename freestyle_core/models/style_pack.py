"""A style for any head of a generator: a small network that changes planes.

The paper fine-tunes a network for each head. A style pack is learnt on several heads at once and
then restyles heads that it never saw, in one pass: new planes = planes + change(planes). The change
is a mean, the same for every head, plus what convolutions make of the head's own planes. A plane is
convolved beside the profiles of the two others along the axes that they share (planes that see the
same two axes go in whole), so that what one plane shows of the hair reaches the others.

Where the paper is silent: everything here. Read `StylePackNet.forward`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import Conv2d

from ..errors import InputError, ShapeError
from .config import EG3DConfig, config_from_dict

LARGEST = 1024  # of any size in a file; more is a damaged file
PLACE_STEP = 8  # texels of the reduced planes for one of what a place adds


@dataclass(frozen=True)
class StylePackConfig:
    """Sizes of the network; the first three are those of the generator's planes."""

    plane_channels: int
    plane_resolution: int
    plane_axes: tuple[str, ...]  # (width axis, height axis) of each plane
    hidden: int = 24  # channels between the convolutions
    layers: int = 1  # convolutions between the first and the last
    reduction: int = 2  # how many times smaller the planes are that are convolved
    mean_reduction: int = 4  # how many times smaller the finest level of the mean is
    mean_levels: int = 4  # each half the size of the last
    gain: float = 8.0  # of the mean's stored numbers, in deviations of their channel

    def __post_init__(self) -> None:
        object.__setattr__(self, "plane_axes", tuple(self.plane_axes))
        sizes = (
            *(self.plane_channels, self.plane_resolution, self.hidden),
            *(self.reduction, self.mean_reduction, self.mean_levels),
        )
        if min(sizes) < 1 or max(sizes) > LARGEST or not 0 <= self.layers <= LARGEST:
            raise InputError(f"a style pack cannot have the sizes {sizes}, {self.layers} layers")
        for divisor in (self.reduction, self.mean_reduction):
            if self.plane_resolution % divisor:
                raise InputError(
                    f"planes of {self.plane_resolution} texels cannot be made {divisor} times "
                    "smaller; choose a divisor of their size"
                )
        if not 0 < self.gain < float("inf"):
            raise InputError(f"the gain of a style pack must be positive, got {self.gain}")
        axes = {"".join(pair) for pair in ("xy", "yx", "xz", "zx", "yz", "zy")}
        if len(self.plane_axes) != 3 or not set(self.plane_axes) <= axes:
            raise InputError(f"plane_axes must be three pairs such as xy, got {self.plane_axes}")

    @classmethod
    def of(cls, eg3d: EG3DConfig, **sizes: Any) -> StylePackConfig:
        """Return the config for the planes of a generator."""
        return cls(eg3d.plane_channels, eg3d.plane_resolution, eg3d.plane_axes, **sizes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "plane_axes": list(self.plane_axes)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StylePackConfig:
        """Return the config that `to_dict` described; unknown names are errors."""
        return config_from_dict(cls, values)


class StylePackNet(nn.Module):
    """Planes [B,3,C,R,R] of any head -> what restyles them, [B,3,C,R,R]; nothing at first."""

    scale: Tensor

    def __init__(self, config: StylePackConfig) -> None:
        super().__init__()
        self.config = config
        width, channels = config.hidden, config.plane_channels
        side = config.plane_resolution // config.reduction
        place = max(1, side // PLACE_STEP)
        self.planes = nn.ModuleList(
            _Convolutions(channels, width, config.layers) for _ in config.plane_axes
        )
        # what a place adds: a convolution sees a few texels and not whether they are eyes or mouth
        self.places = nn.ParameterList(
            0.1 * torch.randn(1, width, place, place) for _ in config.plane_axes
        )
        finest = config.plane_resolution // config.mean_reduction
        sizes = [finest >> level for level in range(config.mean_levels) if finest >> level]
        self.mean = nn.ParameterList(torch.zeros(1, 3 * channels, size, size) for size in sizes)
        # deviation of each channel of the generator's planes, over heads and texels
        self.register_buffer("scale", torch.ones(3, channels))

    def forward(self, planes: Tensor) -> Tensor:
        config = self.config
        expected = (3, config.plane_channels, config.plane_resolution, config.plane_resolution)
        if planes.ndim != 5 or planes.shape[1:] != expected:
            raise ShapeError(
                f"the style pack changes planes [B,{', '.join(map(str, expected))}], got "
                f"{tuple(planes.shape)}"
            )
        scale = self.scale[:, :, None, None]
        small = F.avg_pool2d((planes / scale).flatten(1, 2), config.reduction).unflatten(1, (3, -1))
        made = torch.stack([self._own(index, small) for index in range(3)], dim=1).flatten(1, 2)
        change = _enlarged(made, config.plane_resolution) + config.gain * self._mean()
        return change.unflatten(1, (3, -1)) * scale

    def _own(self, index: int, small: Tensor) -> Tensor:  # [B,3,C,r,r] -> [B,C,r,r]
        """Return what the head's own planes add to one of them."""
        axes = self.config.plane_axes
        others = [i for i in range(3) if i != index]
        seen = [aligned(small[:, i], axes[i], axes[index]) for i in others]
        place = _enlarged(self.places[index], small.shape[-1])
        made: Tensor = self.planes[index](torch.cat([small[:, index], *seen], dim=1), place)
        return made

    def _mean(self) -> Tensor:  # [1,3C,R,R]
        total: Tensor | None = None
        for level in reversed(self.mean):
            total = level if total is None else level + _enlarged(total, level.shape[-1])
        assert total is not None  # there is a level
        return _enlarged(total, self.config.plane_resolution)


class _Convolutions(nn.Module):
    """What is convolved of one plane: first, some layers that add to what they get, last."""

    def __init__(self, channels: int, width: int, layers: int) -> None:
        super().__init__()
        self.first = Conv2d(3 * channels, width, 3, padding=1)
        self.layers = nn.ModuleList(Conv2d(width, width, 3, padding=1) for _ in range(layers))
        self.last = _zero(Conv2d(width, channels, 1))

    def forward(self, x: Tensor, place: Tensor) -> Tensor:  # [B,3C,r,r], [1,h,r,r] -> [B,C,r,r]
        x = F.silu(self.first(x) + place)
        for layer in self.layers:
            x = x + F.silu(layer(x))
        return self.last(x)


def aligned(plane: Tensor, axes: str, target: str) -> Tensor:  # [B,C,r,r]
    """Return what a plane knows at every texel of another: itself, or its profile.

    Planes that share one axis only give their mean over the other, at all places along it.
    """
    if set(axes) == set(target):
        return plane if axes == target else plane.transpose(-1, -2)
    (shared,) = set(axes) & set(target)
    profile = plane.mean(dim=-2 if shared == axes[0] else -1)  # [B,C,r]
    if shared == target[0]:
        return profile[:, :, None, :].expand_as(plane)
    return profile[:, :, :, None].expand_as(plane)


def _enlarged(x: Tensor, size: int) -> Tensor:
    return F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)


def _zero(layer: Conv2d) -> Conv2d:
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
