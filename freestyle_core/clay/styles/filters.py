"""Painting techniques on the finished picture: `(image [V,3,H,W], alpha [V,1,H,W]) -> image`.

They know pixels, not surfaces, so views of one head disagree by construction. Sizes are written for
a picture 128 wide and grow with it. The background stays white.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from ..heads.noise import Look

ImageFilter = Callable[[Tensor, Tensor], Tensor]
LUMA = (0.30, 0.59, 0.11)


def blur(image: Tensor, sigma: float) -> Tensor:
    """Return the image smoothed by a Gaussian of standard deviation `sigma` pixels."""
    half = max(1, int(1.5 * sigma + 0.5))
    at = torch.arange(-half, half + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-(at**2) / (2 * sigma * sigma))
    kernel = (kernel / kernel.sum()).expand(image.shape[1], 1, -1)
    padded = functional.pad(image, [half] * 4, mode="replicate")
    rows = functional.conv2d(padded, kernel[:, :, None, :], groups=image.shape[1])
    return functional.conv2d(rows, kernel[:, :, :, None], groups=image.shape[1])


def luminance(image: Tensor) -> Tensor:
    """Return the brightness of each pixel, [V, 1, H, W]."""
    return (image * image.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)


def paper_noise(image: Tensor, cells: int, look: Look) -> Tensor:
    """Return smooth noise over the picture, the same for every view of one look, [1, 1, H, W]."""
    seed = int(abs(look.offset[0] * 1e4 + look.offset[1] * 1e6)) % (2**31)
    noise = torch.randn(1, 1, cells, cells, generator=torch.Generator().manual_seed(seed))
    size = image.shape[-2:]
    return functional.interpolate(noise, size=size, mode="bicubic").to(image)


def pixel_art(look: Look) -> ImageFilter:
    """Return big square pixels of few colours inside a dark outline."""

    def apply(image: Tensor, alpha: Tensor) -> Tensor:
        size = image.shape[-1]
        cells = max(1, round(size / max(1, round(size / 32))))
        small = functional.adaptive_avg_pool2d(image, cells)
        cover = functional.adaptive_avg_pool2d(alpha.to(image), cells)
        light = luminance(small)
        step = (blur(light, 0.4) * 7).round() / 7  # seven shades of every colour
        small = (step * 1.06 + (small - light) * 1.4).clamp(0, 1)
        inside = (cover > 0.5).to(image)
        grown = functional.max_pool2d(inside, 3, 1, 1)
        small = torch.where(inside > 0, small, torch.ones_like(small))
        small = torch.where((grown > 0) & (inside == 0), small.new_tensor(0.08), small)
        return functional.interpolate(small, size=image.shape[-2:], mode="nearest")

    return apply


def pencil_sketch(look: Look) -> ImageFilter:
    """Return graphite on paper: outlines, and hatching that thickens in the dark."""

    def apply(image: Tensor, alpha: Tensor) -> Tensor:
        unit = image.shape[-1] / 128
        light = luminance(image)
        soft = blur(light, 1.2 * unit)
        edge = (blur(light, 0.6 * unit) - blur(light, 1.5 * unit)).abs() * 7
        rim = (blur(alpha.to(image), 0.6 * unit) - blur(alpha.to(image), 1.3 * unit)).abs() * 2.0
        height, width = image.shape[-2:]
        y = torch.arange(height, dtype=image.dtype, device=image.device)[:, None] / unit
        x = torch.arange(width, dtype=image.dtype, device=image.device)[None, :] / unit
        slope, phase = 1 + 0.6 * look.offset[0], 3 * look.offset[1]
        wobble = paper_noise(image, 9, look)
        first = 0.5 + 0.5 * torch.sin((x + slope * y) * 0.95 * look.scale + phase + wobble)
        second = 0.5 + 0.5 * torch.sin((slope * x - y) * 0.95 * look.scale + phase + wobble)
        tone = ((0.70 - soft) * 0.9).clamp(0, 0.30) * first
        tone = tone + ((0.36 - soft) * 1.2).clamp(0, 0.22) * second
        smudge = (0.90 - soft).clamp_min(0) * 0.33
        tone = (tone + smudge) * alpha.to(image)
        ink = edge.clamp(0, 0.7) + rim.clamp(0, 0.6) + tone * look.strength
        return (1 - ink).clamp(0.08, 1).expand_as(image)

    return apply


def watercolor(look: Look) -> ImageFilter:
    """Return flat washes that pool at their edges and fade into rough paper."""

    def apply(image: Tensor, alpha: Tensor) -> Tensor:
        unit = image.shape[-1] / 128
        wash = image
        for _ in range(max(1, round(unit))):
            wash = blur(_flatten(wash), 0.7)
        wet = paper_noise(image, 8, look)
        cover = blur(alpha.to(image), 2.0 * unit)
        body = smooth_mask(cover + 0.06 * wet)
        pool = (blur(wash, 0.8 * unit) - blur(wash, 2.2 * unit)).abs().mean(1, keepdim=True)
        grey = luminance(wash)
        wash = 1 - (1 - (grey + (wash - grey) * 1.7)) * (0.80 + 0.10 * look.strength * wet)
        wash = wash - pool * 1.6
        rim = (body * (1 - body)) * 0.9
        grit = paper_noise(image, image.shape[-1], look) * 0.006
        tinted = wash.clamp(0, 1) * 0.88 + 0.12 - rim * (1 - wash.clamp(0, 1))
        return torch.lerp(torch.ones_like(wash), tinted + grit, body).clamp(0, 1)

    return apply


def smooth_mask(value: Tensor) -> Tensor:
    """Return 0 below 0.35, 1 above 0.65 and a smooth step between."""
    u = ((value - 0.35) / 0.3).clamp(0, 1)
    return u * u * (3 - 2 * u)


def _flatten(image: Tensor) -> Tensor:
    """Return each pixel replaced by the calmest of nine 3 x 3 means around it (Kuwahara, 1976)."""
    padded = functional.pad(image, [1] * 4, mode="replicate")
    mean = functional.avg_pool2d(padded, 3, 1)
    spread = (functional.avg_pool2d(padded * padded, 3, 1) - mean * mean).sum(1, keepdim=True)
    best, least = mean, spread
    for shift in [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
        moved, moved_spread = mean.roll(shift, (2, 3)), spread.roll(shift, (2, 3))
        calmer = moved_spread < least
        best = torch.where(calmer, moved, best)
        least = torch.where(calmer, moved_spread, least)
    return best
