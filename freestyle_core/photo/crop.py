"""Cut a square out of a photograph, and resample it once."""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor

LANCZOS_REACH = 3.0  # pixels of the smaller picture


def cropped(
    image: Tensor,  # [3,H,W] in [0,1], or uint8
    left: float,  # pixels; the square may reach beyond the picture
    top: float,
    side: float,
    pixels: int,
    *,
    white: bool,  # what lies beyond; else the picture is mirrored there
) -> Tensor:
    """Return the square as [3,pixels,pixels] in [0,1], resampled once (Lanczos)."""
    reach = math.ceil(LANCZOS_REACH * max(1.0, side / pixels)) + 1
    x0, y0 = math.floor(left) - reach, math.floor(top) - reach
    x1, y1 = math.ceil(left + side) + reach, math.ceil(top + side) + reach
    part = _window(image, x0, y0, x1, y1, white)
    box = (left - x0, top - y0, left - x0 + side, top - y0 + side)
    layers = [
        np.asarray(
            Image.fromarray(layer).resize((pixels, pixels), Image.Resampling.LANCZOS, box=box)
        )
        for layer in part
    ]
    return torch.from_numpy(np.stack(layers)).clamp(0, 1)


def _window(image: Tensor, x0: int, y0: int, x1: int, y1: int, white: bool) -> np.ndarray:
    """Return [3,y1-y0,x1-x0] float32 in [0,1] of a picture that goes on beyond its edges."""
    height, width = image.shape[1:]
    low_x, low_y = min(max(x0, 0), width - 1), min(max(y0, 0), height - 1)
    high_x, high_y = max(min(x1, width), low_x + 1), max(min(y1, height), low_y + 1)
    part = image[:, low_y:high_y, low_x:high_x].cpu()
    part = part.float() / 255 if part.dtype == torch.uint8 else part.float()
    beyond = ((0, 0), (low_y - y0, y1 - high_y), (low_x - x0, x1 - high_x))
    # a picture beside the square: its edge is in the square all the same
    beyond = tuple((max(a, 0), max(b, 0)) for a, b in beyond)  # type: ignore[assignment]
    values = np.ascontiguousarray(part.numpy())
    if white:
        padded = np.pad(values, beyond, constant_values=1.0)
    else:
        padded = np.pad(values, beyond, mode="symmetric")
    return np.ascontiguousarray(padded[:, : y1 - y0, : x1 - x0])
