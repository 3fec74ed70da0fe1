"""Many pictures on one sheet: in a square, in plain rows, or in rows with labels.

Pictures are [3,H,W] or [V,3,H,W] in [0,1], sheets [3,H,W].
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from ..errors import ShapeError
from ..files.media.image import to_bytes

MARGIN = 8  # pixels around and between the pictures of a sheet with labels
INK, PAPER = (40, 38, 36), (250, 248, 244)


def square_sheet(views: Sequence[Tensor]) -> Tensor:  # N x [3,H,W] -> [3,rows*H,columns*W]
    """Return equally large images side by side in about a square, black where none is left."""
    columns = math.ceil(math.sqrt(len(views)))
    rows = math.ceil(len(views) / columns)
    black = torch.zeros_like(views[0])
    filled = [*views, *[black] * (rows * columns - len(views))]
    lines = [torch.cat(filled[i : i + columns], dim=2) for i in range(0, len(filled), columns)]
    return torch.cat(lines, dim=1)


def plain_sheet(rows: Sequence[Tensor]) -> Tensor:  # R x [N,3,H,W] -> [3,R*H,N*W]
    """Return rows of equally many, equally large images without gaps."""
    return torch.cat([torch.cat(list(row.float().cpu()), dim=2) for row in rows], dim=1)


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


def _text_width(font: ImageFont.ImageFont | ImageFont.FreeTypeFont, texts: Sequence[str]) -> int:
    return int(max(font.getlength(text) for text in texts))
