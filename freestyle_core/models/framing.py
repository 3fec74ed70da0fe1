"""How a crop shows the head of one family of generators: its pose, and how far it is out of place.

Points of a face say that of people; of heads whose noses and eyes are drawn as they please they do
not (docs/photo.md). So a family may have a small network of its own, trained on
pictures whose cameras are known.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError, ShapeError
from .config import config_from_dict

SLOPE = 0.1
DEGREES, SHARE = 20.0, 0.1  # what 1 means at the network's outputs: angles; shift and log scale
LEAST_PIXELS = 16


@dataclass(frozen=True)
class FramingConfig:
    """Sizes of the network, and whose heads it knows."""

    generator: str = ""  # name of the EG3D whose kind of heads it was trained on
    pixels: int = 64  # side of the picture it looks at
    channels: tuple[int, ...] = (24, 48, 64, 96)  # each stage halves the picture
    hidden: int = 128
    name: str = "framing"
    licence: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        if not self.channels or min(self.channels) < 1 or self.hidden < 1:
            raise InputError(f"framing channels must be positive, got {self.channels}")
        if self.pixels < LEAST_PIXELS or self.pixels % 2 ** len(self.channels):
            raise InputError(
                f"framing pixels must be a multiple of 2^{len(self.channels)}, got {self.pixels}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "channels": list(self.channels)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FramingConfig:
        """Return the config that `to_dict` described; unknown names are errors."""
        return config_from_dict(cls, values)


class FramingNet(nn.Module):
    """Crops [B,3,S,S] in [0,1] to [B,6]: yaw, pitch and roll in degrees, shift x and y, log scale.

    The shift is where the middle of the right crop lies, in sides of the given one and from its
    middle; the exponential of the last is the right side over the given one.
    """

    def __init__(self, config: FramingConfig) -> None:
        super().__init__()
        self.config = config
        widths = (3, *config.channels)
        self.stages = nn.ModuleList(
            nn.Conv2d(before, after, 3, 2, 1) for before, after in itertools.pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, width) for width in config.channels)
        side = config.pixels // 2 ** len(config.channels)
        self.hidden = nn.Linear(config.channels[-1] * side * side, config.hidden)
        self.output = nn.Linear(config.hidden, 6)

    def forward(self, image: Tensor) -> Tensor:
        size = self.config.pixels
        if image.ndim != 4 or image.shape[1:] != (3, size, size):
            raise ShapeError(
                f"framing looks at crops [B,3,{size},{size}], got {tuple(image.shape)}"
            )
        x = image * 2 - 1
        for conv, norm in zip(self.stages, self.norms, strict=True):
            x = F.leaky_relu(norm(conv(x)), SLOPE)
        x = self.output(F.leaky_relu(self.hidden(x.flatten(1)), SLOPE))
        return x * x.new_tensor([DEGREES] * 3 + [SHARE] * 3)
