"""A chart of means with their bounds: a row for each thing that was measured, a panel for a score.

Drawn with Pillow, as the sheets are. Read `interval_chart`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..errors import ShapeError
from .contact_sheet import INK, PAPER

ROW, TOP, MARGIN = 26, 62, 16  # pixels
PANEL = 250
FAINT, LINE, SPREAD = (222, 217, 208), (150, 142, 130), (90, 130, 170)
MARK, FIRST = (28, 76, 120), (190, 80, 40)  # of a mean, and of the first row's
ROOM = 0.06  # of the span, left free on both sides of a panel


@dataclass(frozen=True)
class Bar:
    """A mean and its bounds, where there are any."""

    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Panel:
    """One score of all rows."""

    title: str
    note: str  # such as "more is better"
    bars: Sequence[Bar | None]  # a row each; None: not measured


def interval_chart(
    labels: Sequence[str],
    panels: Sequence[Panel],
) -> Tensor:
    """Return the chart [3,H,W] in [0,1]; the first row's mean is a line through every panel."""
    if not labels or not panels or any(len(panel.bars) != len(labels) for panel in panels):
        raise ShapeError("a chart needs rows, panels, and one bar of each panel for every row")
    font, small = ImageFont.load_default(size=15), ImageFont.load_default(size=12)
    left = int(max(font.getlength(label) for label in labels)) + 2 * MARGIN
    size = (left + len(panels) * (PANEL + MARGIN), TOP + len(labels) * ROW + MARGIN)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for row, label in enumerate(labels):
        y = TOP + row * ROW + ROW // 2
        draw.text((left - MARGIN, y), label, fill=INK, font=font, anchor="rm")
    for number, panel in enumerate(panels):
        x = left + number * (PANEL + MARGIN)
        _draw_panel(draw, panel, x, (font, small))
    return torch.from_numpy(np.array(sheet)).permute(2, 0, 1).float() / 255


def span_of(bars: Sequence[Bar | None]) -> tuple[float, float]:
    """Return the lowest and the highest number of some bars, with room on both sides."""
    known = [bar for bar in bars if bar is not None]
    numbers = [x for bar in known for x in (bar.mean, bar.low, bar.high) if x is not None]
    if not numbers:
        return 0.0, 1.0
    low, high = min(numbers), max(numbers)
    if high - low < 1e-9:
        return low - 0.5, high + 0.5
    room = ROOM * (high - low)
    return low - room, high + room


def _draw_panel(
    draw: ImageDraw.ImageDraw, panel: Panel, left: int, fonts: tuple[object, object]
) -> None:
    font, small = fonts
    low, high = span_of(panel.bars)

    def at(value: float) -> float:
        return left + (value - low) / (high - low) * PANEL

    bottom = TOP + len(panel.bars) * ROW
    draw.text((left, 10), panel.title, fill=INK, font=font)  # type: ignore[arg-type]
    draw.text((left, 29), panel.note, fill=LINE, font=small)  # type: ignore[arg-type]
    for share, anchor in ((0.0, "ls"), (1.0, "rs")):
        text = f"{low + share * (high - low):.3g}"
        draw.text((left + share * PANEL, TOP - 3), text, fill=LINE, font=small, anchor=anchor)  # type: ignore[arg-type]
    for row in range(len(panel.bars) + 1):
        draw.line([(left, TOP + row * ROW), (left + PANEL, TOP + row * ROW)], fill=FAINT)
    first = panel.bars[0]
    if first is not None:
        draw.line([(at(first.mean), TOP), (at(first.mean), bottom)], fill=FIRST, width=1)
    for row, bar in enumerate(panel.bars):
        if bar is None:
            continue
        y = TOP + row * ROW + ROW // 2
        if bar.low is not None and bar.high is not None:
            draw.rectangle([at(bar.low), y - 3, at(bar.high), y + 3], fill=SPREAD)
        x, colour = at(bar.mean), FIRST if row == 0 else MARK
        draw.ellipse([x - 5, y - 5, x + 5, y + 5], fill=colour)
