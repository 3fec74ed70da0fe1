"""The scene that is distilled: planes of several resolutions and a small network, in a box of 2.

It stands in for the hash grid of the released code: the mean of three planes of three levels each
(256, 128 and 64 texels a side) goes through a network of three layers of 64. A mean, so that the
published rates move the density about as far as in a hash grid, whose levels lie side by side; a
sum was tried and tore. The density is exp(h + blob), the albedo a sigmoid. A second network makes
the background from the direction of a ray alone.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...geometry.triplane import FoldedPlanes, sample_folded
from .shading import density_blob

BOUND = 1.0  # field units, half the side of the box
AXES = ("xy", "xz", "yz")
LARGEST_LOG = 15.0  # of the density
START = 1e-4  # planes begin within +- this, as the entries of the hash grid do
FREQUENCIES = 6  # of a ray's direction


class Field(nn.Module):
    """Density and albedo everywhere in the box, and the colour behind it."""

    def __init__(
        self,
        channels: int = 32,
        resolutions: tuple[int, ...] = (64, 128, 256),  # texels a side, rising
        hidden: int = 64,
        layers: int = 3,  # of the network, the last one included
    ) -> None:
        super().__init__()
        self.planes = nn.ParameterList(
            torch.empty(3, channels, side, side).uniform_(-START, START) for side in resolutions
        )
        self.net = _network(channels, hidden, 4, layers)
        self.backdrop = _network(3 + 6 * FREQUENCIES, 32, 3, 2)

    def folded(self) -> FoldedPlanes:
        """Return the levels as one set of planes, for all samples of a step."""
        side = self.planes[-1].shape[-1]
        total = self.planes[-1]
        for level in self.planes[:-1]:
            total = total + F.interpolate(level, size=(side, side), mode="bilinear")
        share = len(AXES) * len(self.planes)
        return FoldedPlanes(total[None] / share, AXES, 2 * BOUND)

    def decode(self, planes: FoldedPlanes, points: Tensor) -> tuple[Tensor, Tensor]:  # [N,3]
        """Return the density [N] and the albedo [N,3] in [0,1] at points."""
        h = self.net(sample_folded(planes, points[None])[0].t())
        return self._density(h[:, 0], points), torch.sigmoid(h[:, 1:])

    def density(self, planes: FoldedPlanes, points: Tensor) -> Tensor:  # [N,3]
        """Return the density [N] alone."""
        h = self.net(sample_folded(planes, points[None])[0].t())
        return self._density(h[:, 0], points)

    def _density(self, h: Tensor, points: Tensor) -> Tensor:
        return torch.exp((h + density_blob(points)).clamp_max(LARGEST_LOG))

    def background(self, directions: Tensor) -> Tensor:  # [M,3], unit length
        """Return the colour [M,3] in [0,1] behind the box."""
        return torch.sigmoid(self.backdrop(frequencies(directions)))

    def rates(self, rate: float, plane_factor: float) -> list[dict]:
        """Return the optimiser's groups: the planes learn `plane_factor` times as fast."""
        networks = [*self.net.parameters(), *self.backdrop.parameters()]
        return [
            {"params": list(self.planes), "lr": rate * plane_factor},
            {"params": networks, "lr": rate},
        ]


def _network(width: int, hidden: int, out: int, layers: int) -> nn.Sequential:
    sizes = [width, *[hidden] * (layers - 1), out]
    parts: list[nn.Module] = []
    for before, after in zip(sizes, sizes[1:], strict=False):
        parts += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*parts[:-1])


def frequencies(directions: Tensor) -> Tensor:  # [M,3] -> [M,3 + 6 FREQUENCIES]
    """Return x and sin, cos of 2^k x for k from 0 to 5."""
    scaled = directions[..., None] * 2.0 ** torch.arange(FREQUENCIES, device=directions.device)
    waves = torch.stack([scaled, scaled + math.pi / 2]).sin()  # [2,M,3,FREQUENCIES]
    return torch.cat([directions, waves.permute(1, 0, 2, 3).flatten(1)], dim=-1)
