"""Pictures and videos at a size that can be watched."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor
from torch.nn import functional

from ..files.media.video import save_video

WATCHABLE_PIXELS = 512  # smaller pictures are enlarged by a whole factor


def save_movie(path: Path, frames: Tensor, fps: float) -> None:
    """Write frames [F,3,H,W] as a video large enough to watch."""
    save_video(path, frames, fps=fps, scale=scale_for(frames.shape[-1]))


def scale_for(pixels: int) -> int:
    """Return the whole factor that brings `pixels` nearest to a watchable size."""
    return max(1, round(WATCHABLE_PIXELS / pixels))


def enlarged(image: Tensor) -> Tensor:  # [3,H,W]
    """Return the picture at a watchable size."""
    scale = scale_for(image.shape[-1])
    if scale == 1:
        return image
    return functional.interpolate(
        image[None], scale_factor=scale, mode="bicubic", align_corners=False
    )[0].clamp(0, 1)
