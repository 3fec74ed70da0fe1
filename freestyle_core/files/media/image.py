"""Pictures as PNG, and the contact sheet that shows many views at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional

from ...errors import FileFormatError, ShapeError
from ..bundle import write_atomically

INK, PAPER = (40, 38, 36), (250, 248, 244)
MARGIN = 8  # pixels around and between the pictures of a sheet


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
    """Return the picture at `path` as [3,H,W] in [0,1]; transparency shows white."""
    path = Path(path)
    try:
        with Image.open(path) as file:
            picture = file.convert("RGBA")
    except FileNotFoundError:
        raise FileFormatError(f"{path} is not there; check the name and the folder") from None
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise FileFormatError(f"{path} is no readable picture ({error}); save it again") from None
    white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    flat = Image.alpha_composite(white, picture).convert("RGB")
    return torch.from_numpy(np.array(flat)).permute(2, 0, 1).float() / 255


def contact_sheet(
    rows: Sequence[tuple[str, Tensor]],  # label and images [V,3,H,W] in [0,1]
    *,
    tile: int = 160,
    columns: Sequence[str] | None = None,
) -> Tensor:
    """Return one picture [3,H,W]: a labelled row per entry, `tile` pixels per view."""
    if not rows or any(images.shape[0] == 0 for _, images in rows):
        raise ShapeError("a contact sheet needs at least one row with at least one image")
    count = max(images.shape[0] for _, images in rows)
    font = ImageFont.load_default(size=max(12, tile // 10))
    left = _text_width(font, [label for label, _ in rows]) + 2 * MARGIN
    top = MARGIN + (tile // 8 + MARGIN if columns else 0)
    size = (left + count * (tile + MARGIN), top + len(rows) * (tile + MARGIN))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, text in enumerate(columns or []):
        middle = left + index * (tile + MARGIN) + tile / 2
        draw.text((middle, top - MARGIN), text, fill=INK, font=font, anchor="ms")
    for row, (label, images) in enumerate(rows):
        y = top + row * (tile + MARGIN)
        draw.text((MARGIN, y + tile / 2), label, fill=INK, font=font, anchor="lm")
        for column, picture in enumerate(to_bytes(_resized(images, tile))):
            sheet.paste(Image.fromarray(picture), (left + column * (tile + MARGIN), y))
    return torch.from_numpy(np.array(sheet)).permute(2, 0, 1).float() / 255


def _resized(images: Tensor, size: int) -> Tensor:
    return functional.interpolate(
        images.detach().float(), size=(size, size), mode="bicubic", antialias=True
    ).clamp(0, 1)


def _text_width(font: ImageFont.ImageFont, texts: Sequence[str]) -> int:
    return int(max(font.getlength(text) for text in texts))
