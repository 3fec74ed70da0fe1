"""PSNR against numbers worked out by hand."""

import pytest
import torch

from freestyle_core.metrics.image import psnr


def test_psnr_of_each_image():
    black = torch.zeros(3, 3, 4, 4)
    other = torch.stack([torch.full((3, 4, 4), value) for value in (0.1, 1.0, 0.0)])
    # 0.1 off: -10 log10(0.01) = 20 dB; 1 off: 0 dB; equal images are cut off at 100 dB
    assert psnr(black, other).tolist() == pytest.approx([20.0, 0.0, 100.0], abs=1e-4)


def test_psnr_averages_over_pixels_and_colors_of_its_own_image():
    a, b = torch.zeros(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)
    b[0, 0, 0, 0] = 0.6  # one of 12 values: a mean square of 0.03
    assert psnr(a, b).tolist() == pytest.approx([15.2288, 100.0], abs=1e-3)
