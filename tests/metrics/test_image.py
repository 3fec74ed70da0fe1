"""PSNR, sharpness and clipping against numbers worked out by hand."""

import pytest
import torch

from freestyle_core.metrics.image import clipped_share, psnr, sharpness


def test_psnr_of_each_image():
    black = torch.zeros(3, 3, 4, 4)
    other = torch.stack([torch.full((3, 4, 4), value) for value in (0.1, 1.0, 0.0)])
    # 0.1 off: -10 log10(0.01) = 20 dB; 1 off: 0 dB; equal images are cut off at 100 dB
    assert psnr(black, other).tolist() == pytest.approx([20.0, 0.0, 100.0], abs=1e-4)


def test_psnr_averages_over_pixels_and_colors_of_its_own_image():
    a, b = torch.zeros(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)
    b[0, 0, 0, 0] = 0.6  # one of 12 values: a mean square of 0.03
    assert psnr(a, b).tolist() == pytest.approx([15.2288, 100.0], abs=1e-3)


def test_sharpness_of_one_bright_pixel():
    image = torch.zeros(2, 3, 5, 5)
    image[0, :, 2, 2] = 0.5
    # the inner 3 x 3 of the Laplacian: -4 in the middle, 1 at four sides, 0 in the corners; mean 0
    expected = (16 + 4) / 9 * (0.5 * 255) ** 2
    assert sharpness(image).tolist() == pytest.approx([expected, 0.0], rel=1e-5)


def test_sharpness_weighs_colours_as_grey_does():
    image = torch.zeros(1, 3, 3, 3)
    image[0, 1, ::2, ::2] = 1.0  # one pixel is left of the Laplacian, a variance of 0
    assert sharpness(image).item() == 0
    columns = torch.zeros(1, 3, 3, 6)
    columns[0, 1, :, 1::2] = 1.0  # green stripes: the Laplacian is -2 and 2 in turn
    assert sharpness(columns).item() == pytest.approx((2 * 255 * 0.587) ** 2, rel=1e-5)


def test_clipped_pixels_are_bright_or_pure_and_covered():
    image = torch.full((1, 3, 1, 6), 0.5)
    image[0, :, 0, 1] = torch.tensor([0.99, 0.5, 0.5])  # a channel too bright
    image[0, :, 0, 2] = torch.tensor([0.5, 0.02, 0.3])  # saturation 0.96
    image[0, :, 0, 3] = torch.tensor([0.5, 0.03, 0.3])  # saturation 0.94
    image[0, :, 0, 4] = 0.0  # black has no saturation
    image[0, :, 0, 5] = 1.0  # outside of the mask
    mask = torch.tensor([True] * 5 + [False]).view(1, 1, 1, 6)
    assert clipped_share(image, mask).item() == pytest.approx(2 / 5)
    assert clipped_share(image, torch.zeros_like(mask)).item() == 0
