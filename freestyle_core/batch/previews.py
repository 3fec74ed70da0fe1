"""Small pictures of jobs: sent by workers as bytes, and put together for whoever watches."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from ..files.bundle import write_atomically
from ..files.media.image import to_bytes

TILE = 192  # pixels
MOST = 12  # pictures at a time
COLUMNS = 4
PAPER = (250, 248, 244)


def as_png(image: Tensor) -> bytes:  # [3,H,W], in [0,1]
    """Return a picture as a small PNG."""
    picture = Image.fromarray(to_bytes(image[None])[0])
    picture.thumbnail((TILE, TILE))
    written = io.BytesIO()
    picture.save(written, format="PNG")
    return written.getvalue()


def write_live(path: Path, working: Sequence[bytes], finished: Iterable[Path]) -> None:
    """Write one picture of what is being made, as PNG, and after it of what was finished last."""
    sources: list[io.BytesIO | Path] = [io.BytesIO(picture) for picture in working]
    sources += list(finished)
    tiles = []
    for source in sources[:MOST]:
        try:
            with Image.open(source) as picture:
                tiles.append(picture.convert("RGB").resize((TILE, TILE)))
        except OSError:  # it is just being replaced, or was never made
            continue
    if not tiles:
        return
    columns = min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * TILE, rows * TILE), PAPER)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        sheet.paste(tile, (column * TILE, row * TILE))
    with write_atomically(path) as part:
        sheet.save(part, format="PNG")
