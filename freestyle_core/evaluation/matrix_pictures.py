"""What is shown of a matrix: a grid of what its methods made, and the chart of their scores.

Read `grid` and `chart`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from ..files.media.image import load_image
from ..visualize.contact_sheet import contact_sheet
from ..visualize.interval_chart import Bar, Panel, interval_chart
from .ablate import Matrix
from .results import Results
from .strips import STRIP

SHOWN = (2, 3, 4)  # of them in the grid: front, right, surface
FIRST_SHOWN = 0  # the edited front, once for each pair and edit
PAIRS_SHOWN = 3
TILE = 120
NOT_MADE = 0.9  # grey of a cell that is not finished
CHARTED = {
    "clip_text": ("CLIP: text", "more is better"),
    "truth_perceptual": ("distance to the true head", "less is better"),
    "warp_long_perceptual": ("warp error at 30 degrees", "less is better"),
}


def grid(matrix: Matrix) -> Tensor | None:
    """Return the sheet [3,H,W]: methods below each other, the first pairs beside each other.

    None while there is no finished cell.
    """
    files = {
        (method.name, pair): matrix.store.strip(matrix.keys(method, pair)[2])
        for method, pair in matrix.cells()
    }
    files = {cell: file for cell, file in files.items() if file.is_file()}
    shown = [pair for pair in matrix.pairs if any(other == pair for _, other in files)]
    shown = shown[:PAIRS_SHOWN]
    rows: list[tuple[str, Tensor]] = []
    for method in matrix.runnable():
        found = [files.get((method.name, pair)) for pair in shown]
        if any(found):
            rows.append((method.label, torch.stack([x for file in found for x in _tiles(file)])))
    if not rows:
        return None
    names = [STRIP[index] for index in SHOWN]
    columns = [name for pair in shown for name in (f"{pair.style}: edit", *names)]
    return contact_sheet(rows, tile=TILE, columns=columns)


def _tiles(path: Path | None) -> list[Tensor]:
    """Return the shown pictures of a strip [3,H,H], grey ones where there is none."""
    parts = [torch.full((3, TILE, TILE), NOT_MADE)] * len(STRIP)
    if path is not None:
        parts = list(load_image(path).chunk(len(STRIP), dim=2))
    chosen = [parts[index] for index in (FIRST_SHOWN, *SHOWN)]
    size = (TILE, TILE)
    return [functional.interpolate(x[None], size=size, mode="area")[0] for x in chosen]


def chart(results: Results) -> Tensor:
    """Return the figure of the matrix [3,H,W]: every method's mean and bounds of three scores."""
    rows = [row for row in results.methods if row["cells"]]
    labels = [f"{row['label']} ({len(row['cells'])})" for row in rows]
    known = [column for column in CHARTED if column in results.columns()]
    known = known or results.columns()[: len(CHARTED)]  # models of which nobody knows more
    panels = [_panel(results, rows, column) for column in known]
    return interval_chart(labels, panels)


def _panel(results: Results, rows: Sequence[dict], column: str) -> Panel:
    bars: list[Bar | None] = []
    for row in rows:
        found = results.interval(row["name"], column)
        bars.append(None if found is None else Bar(found.mean, found.low, found.high))
    return Panel(*CHARTED.get(column, (column, "")), bars)
