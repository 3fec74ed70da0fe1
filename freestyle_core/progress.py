"""Progress is a plain callable passed down as an argument; cancelling means that it raises."""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Progress(Protocol):
    """Report that `done` of `total` steps are finished; may raise to cancel the run.

    The same `done` may come again: long work asks in between whether it shall go on. `preview` is
    an optional image [3,H,W] in [0,1] of what has been made so far.
    """

    def __call__(self, done: int, total: int, preview: Tensor | None = None) -> None: ...


class OnLoss(Protocol):
    """Take note of the losses of the step that `Progress` reports next, by name."""

    def __call__(self, losses: dict[str, float]) -> None: ...


def no_progress(done: int, total: int, preview: Tensor | None = None) -> None:
    """Ignore all reports."""


def contact_sheet(views: Sequence[Tensor]) -> Tensor:  # N x [3,H,W] -> [3,rows*H,columns*W]
    """Return equally large images side by side in about a square, black where none is left."""
    columns = math.ceil(math.sqrt(len(views)))
    rows = math.ceil(len(views) / columns)
    black = torch.zeros_like(views[0])
    filled = [*views, *[black] * (rows * columns - len(views))]
    lines = [torch.cat(filled[i : i + columns], dim=2) for i in range(0, len(filled), columns)]
    return torch.cat(lines, dim=1)
