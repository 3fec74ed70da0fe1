"""Solid noise is the same on every processor."""

import numpy as np
import torch

from freestyle_core.clay.heads.noise import value_noise


def test_noise_at_lattice_points_is_rounded_number_by_number():
    """A last bit of the sum is another noise, so its order is part of what the models learnt."""
    points = torch.randint(-60, 60, (2000, 3), generator=torch.Generator().manual_seed(0)).float()
    x, y, z = points.numpy().T
    a, b, c = (np.float32(v) for v in (12.9898, 78.233, 37.719))
    hashed = np.sin(((x * a + y * b) + z * c).astype(np.float64)) * 43758.5453
    off = np.abs(value_noise(points, 1.0).numpy() - (hashed - np.floor(hashed)))
    off = np.minimum(off, 1 - off)  # just below one and just above nothing are neighbours
    assert off.max() < 0.02  # a sine of single precision is 4e-8 off, 43758 times that


def test_noise_between_lattice_points_is_between_their_values():
    ends = torch.tensor([[2.0, 3.0, 4.0], [3.0, 3.0, 4.0]])
    low, high = value_noise(ends, 1.0).sort().values
    middle = value_noise(ends.mean(0, keepdim=True), 1.0)
    torch.testing.assert_close(middle, (low + high)[None] / 2)
