"""Pictures: written as PNG, read as they come."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ...errors import FileFormatError, ShapeError
from ..bundle import write_atomically


def to_bytes(images: Tensor) -> np.ndarray:
    """Return uint8 [N,H,W,3] of images [N,3,H,W] in [0,1]; values outside are clamped."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise ShapeError(f"images must be [N,3,H,W], got {tuple(images.shape)}")
    if not bool(torch.isfinite(images).all()):
        raise ShapeError("images contain NaN or infinite values; check the step that made them")
    scaled = (images.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(scaled.permute(0, 2, 3, 1).cpu().numpy())


def save_image(path: Path | str, image: Tensor) -> None:
    """Write an image [3,H,W] in [0,1] as PNG."""
    picture = Image.fromarray(to_bytes(image[None])[0])
    with write_atomically(path) as temporary:
        picture.save(temporary, format="PNG")


def load_image(path: Path | str) -> Tensor:
    """Return the picture at `path` as [3,H,W] in [0,1], the right way up; transparency is white."""
    picture = _opened(path)
    white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    flat = Image.alpha_composite(white, picture).convert("RGB")
    return torch.from_numpy(np.array(flat)).permute(2, 0, 1).float() / 255


def load_mask(path: Path | str) -> Tensor:
    """Return the brightness of the picture at `path` as [H,W] in [0,1]; transparency is 0."""
    picture = _opened(path)
    black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
    flat = Image.alpha_composite(black, picture).convert("L")
    return torch.from_numpy(np.array(flat)).float() / 255


def has_deep_grey(picture: Image.Image) -> bool:
    """Return whether it is grey of more than 8 bits, which Pillow would only clip."""
    return picture.mode in ("I", "F") or picture.mode.startswith("I;16")


def eight_bits(picture: Image.Image) -> Image.Image:
    """Return grey of 16 bits, or of [0,1] or 0 to 255, as grey of 8 bits."""
    values = np.nan_to_num(np.asarray(picture).astype(np.float32))
    top = float(values.max(initial=0))
    scale = 255 / 65535 if top > 255 else 255.0 if top <= 1 else 1.0
    return Image.fromarray((values * scale).round().clip(0, 255).astype(np.uint8))


def _opened(path: Path | str) -> Image.Image:
    """Return the picture at `path` as RGBA, turned as its file says."""
    path = Path(path)
    try:
        with Image.open(path) as file:
            turned = ImageOps.exif_transpose(file)
            return (eight_bits(turned) if has_deep_grey(turned) else turned).convert("RGBA")
    except FileNotFoundError:
        raise FileFormatError(f"{path} is not there; check the name and the folder") from None
    except (
        OSError,
        ValueError,
        SyntaxError,  # of some damaged PNG files
        UnidentifiedImageError,
        Image.DecompressionBombError,
    ) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise FileFormatError(f"{path} is no readable picture ({reason}); save it again") from None
