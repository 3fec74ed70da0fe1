"""The orbit viewer's picture file: every view of one or two portraits in a single JPEG.

From top to bottom, for each portrait: a block of pictures, a block of opacity where there is one,
and a block of depth, half the size. A block has `columns` tiles per row. The description that goes
with the file says where each block starts and what its grey means.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image
from torch import Tensor

from ...errors import ShapeError
from ...types import OrbitViews
from ..bundle import write_atomically
from .image import to_bytes

TILE_STEP = 16  # pixels: tiles, also at half size, then end where JPEG's blocks of 8 end
MAX_PIXELS = 2**25  # of all pictures together: 128 MiB in a browser
MAX_SIDE = 65500  # pixels, JPEG's limit
QUALITY = 94  # of 100


def save_atlas(path: Path | str, portraits: Sequence[OrbitViews], columns: int) -> dict[str, Any]:
    """Write the views and return where they are: tile size and, per portrait, its blocks."""
    tile = tile_size(portraits, columns)
    width = columns * tile
    blocks: list[Tensor] = []  # [3,h,width] each
    layout = []

    def add(views: Tensor, size: int) -> int:
        start = sum(block.shape[1] for block in blocks)
        block = tiled(resized(views, size), columns)
        blocks.append(F.pad(block, (0, width - block.shape[2])))
        return start

    for views in portraits:
        near, far = views.depth.min().item(), views.depth.max().item()
        depth = (views.depth - near) / max(far - near, 1e-6)
        entry = {"image": add(views.image, tile)}
        if views.alpha is not None:
            entry["alpha"] = add(views.alpha, tile)
        entry["depth"] = add(depth, tile // 2)
        layout.append({**entry, "near": near, "far": far})
    picture = Image.fromarray(to_bytes(torch.cat(blocks, dim=1)[None])[0])
    with write_atomically(path) as temporary:
        picture.save(temporary, format="JPEG", quality=QUALITY, subsampling=0)
    return {"tile": tile, "portraits": layout}


def tile_size(portraits: Sequence[OrbitViews], columns: int) -> int:
    """Return the pixels per side of a view: the largest picture's, within the file's limits."""
    counts = {len(views.image) for views in portraits}
    if len(counts) != 1 or counts.pop() % columns:
        raise ShapeError(
            f"an atlas of {columns} columns needs full rows and as many views of each portrait, "
            f"got {[len(views.image) for views in portraits]}"
        )
    total = sum(len(views.image) for views in portraits)
    rows = total / columns
    limit = min((MAX_PIXELS / total) ** 0.5, MAX_SIDE / columns, MAX_SIDE / (2.5 * rows))
    size = min(max(views.image.shape[-1] for views in portraits), limit)
    return max(TILE_STEP, int(size) // TILE_STEP * TILE_STEP)


def resized(views: Tensor, size: int) -> Tensor:  # [V,C,H,W] -> [V,C,size,size]
    """Return square views at another size."""
    if views.shape[-1] == size:
        return views
    smaller = views.shape[-1] > size
    return F.interpolate(views, size=(size, size), mode="bilinear", antialias=smaller)


def tiled(views: Tensor, columns: int) -> Tensor:  # [V,1 or 3,T,T] -> [3,rows*T,columns*T]
    """Return views side by side, row by row; one channel becomes grey."""
    views = views.expand(-1, 3, -1, -1)
    return rearrange(views, "(r c) k h w -> k (r h) (c w)", c=columns)
