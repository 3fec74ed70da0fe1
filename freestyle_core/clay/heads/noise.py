"""Solid noise and colour helpers for the styles' textures.

Points `q` are [N, 3] in head coordinates (y up, face towards +z, about 0.3 from chin to crown);
colours are [N, 3] in [0, 1]; masks are [N] in [0, 1]. `Look` says how one picture of a style
differs from the next, so every texture function takes one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Color = tuple[float, float, float]
KEY_LIGHT = (-0.451, 0.621, 0.641)  # unit vector towards the main light


@dataclass(frozen=True)
class Look:
    """How one picture of a style is drawn; the default is the style itself, jitter changes it."""

    offset: Color = (0.0, 0.0, 0.0)  # added to the points before noise is read, head units
    scale: float = 1.0  # multiplies texture frequencies
    strength: float = 1.0  # multiplies stains, veins, cracks and strokes
    hue: float = 0.0  # turns of the colour circle
    brightness: float = 1.0
    saturation: float = 1.0

    def place(self, q: Tensor) -> Tensor:
        """Return the points at which this look reads its noise, [N, 3]."""
        return q * self.scale + rgb(self.offset, q)


def rgb(color: Sequence[float], like: Tensor) -> Tensor:
    """Return the numbers as a tensor with the dtype and device of `like`."""
    return like.new_tensor(tuple(color))


def smoothstep(low: float, high: float, value: Tensor) -> Tensor:
    """Return 0 below `low`, 1 above `high`, 3u^2 - 2u^3 between; `low` > `high` falls instead."""
    u = ((value - low) / (high - low)).clamp(0, 1)
    return u * u * (3 - 2 * u)


def blend(colors: Tensor, color: Sequence[float], amount: Tensor) -> Tensor:
    """Return the colours [N, 3] moved towards one colour by the amount [N]."""
    return torch.lerp(colors, rgb(color, colors).expand_as(colors), amount[:, None])


def ramp(low: Sequence[float], high: Sequence[float], amount: Tensor) -> Tensor:
    """Return colours [N, 3] between two colours for amounts [N]."""
    return torch.lerp(rgb(low, amount), rgb(high, amount), amount[:, None])


def key_light(normals: Tensor) -> Tensor:
    """Return how much each normal faces the main light, 0 (away) to 1, [N]."""
    return normals @ rgb(KEY_LIGHT, normals) * 0.5 + 0.5


def value_noise(q: Tensor, frequency: float, seed: float = 0.0) -> Tensor:
    """Return smooth noise in [0, 1] with features of size 1/frequency, [N]."""
    x = q * frequency + seed
    cell = x.floor()
    u = x - cell
    u = u * u * (3 - 2 * u)
    corner = q.new_tensor([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    x, y, z = (cell[:, None] + corner).unbind(-1)
    # number by number, as every processor rounds it: a matrix product may fuse or reorder, and the
    # next line turns a last bit into another noise
    lattice = x * 12.9898 + y * 78.233 + z * 37.719
    value = torch.sin(lattice) * 43758.5453
    value = value - value.floor()  # [N, 8], x slowest
    value = torch.lerp(value[:, :4], value[:, 4:], u[:, :1])
    value = torch.lerp(value[:, :2], value[:, 2:], u[:, 1:2])
    return torch.lerp(value[:, 0], value[:, 1], u[:, 2])


def fractal_noise(q: Tensor, frequency: float, octaves: int = 3, seed: float = 0.0) -> Tensor:
    """Return a sum of noises, each octave twice as fine and half as strong, about [0, 1], [N]."""
    total = q.new_zeros(len(q))
    for k in range(octaves):
        total = total + value_noise(q, frequency * 2**k, seed + 7 * k) * 0.5 ** (k + 1)
    return total


def veins(q: Tensor, frequency: float, width: float = 0.045, seed: float = 0.0) -> Tensor:
    """Return 1 on thin crooked lines through the solid, falling to 0 beside them, [N]."""
    warp = torch.stack([value_noise(q, 14.0, s) for s in (1.0, 5.0, 9.0)], -1)
    level = fractal_noise(q + 0.12 * warp, frequency, 3, seed)
    return (1 - (level - 0.44).abs() / width).clamp(0, 1)


def recolor(colors: Tensor, look: Look) -> Tensor:
    """Return the colours [N, 3] turned in hue, then scaled in saturation and brightness."""
    grey = colors.mean(-1, keepdim=True)
    cos, sin = math.cos(2 * math.pi * look.hue), math.sin(2 * math.pi * look.hue)
    third, side = (1 - cos) / 3, sin / math.sqrt(3)  # Rodrigues about the grey axis
    rotation = colors.new_tensor(
        [
            [cos + third, third - side, third + side],
            [third + side, cos + third, third - side],
            [third - side, third + side, cos + third],
        ]
    )
    turned = colors @ rotation.T
    return (grey + (turned - grey) * look.saturation) * look.brightness
