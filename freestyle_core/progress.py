"""Progress is a plain callable passed down as an argument; cancelling means that it raises."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


class Progress(Protocol):
    """Report that `done` of `total` steps are finished; may raise to cancel the run.

    `done` may be a step and a share of the next, and the same `done` may come again: long work asks
    in between whether it shall go on. `preview` is an optional image [3,H,W] in [0,1] of what has
    been made so far. One with a method `phase`, as of `Phased`, is told what is being done.
    """

    def __call__(self, done: float, total: int, preview: Tensor | None = None) -> None: ...


@runtime_checkable
class Phased(Protocol):
    """What a `Progress` may have besides, to show more than one number."""

    def phase(self, name: str, done: int, total: int) -> None:
        """Take note of what the next report is about, as in ("decoding, view", 3, 17)."""


def enter_phase(progress: Progress, name: str, done: int, total: int) -> None:
    """Say what is being done and how much of it is finished, to a progress that shows such things.

    Names are words that a count follows: "decoding, view".
    """
    if isinstance(progress, Phased):
        progress.phase(name, done, total)


@dataclass(frozen=True)
class Portion:
    """A `Progress` that fills the stretch from `start` to `stop` of another one, in shares of 1."""

    progress: Progress
    start: float
    stop: float

    def __call__(self, done: float, total: int, preview: Tensor | None = None) -> None:
        share = done / total if total else 1.0
        self.progress(self.start + (self.stop - self.start) * share, 1, preview)

    def phase(self, name: str, done: int, total: int) -> None:
        """Pass on what is being done."""
        enter_phase(self.progress, name, done, total)


class OnLoss(Protocol):
    """Take note of the losses of the step that `Progress` reports next, by name."""

    def __call__(self, losses: dict[str, float]) -> None: ...


def no_progress(done: float, total: int, preview: Tensor | None = None) -> None:
    """Ignore all reports."""


def contact_sheet(views: Sequence[Tensor]) -> Tensor:  # N x [3,H,W] -> [3,rows*H,columns*W]
    """Return equally large images side by side in about a square, black where none is left."""
    columns = math.ceil(math.sqrt(len(views)))
    rows = math.ceil(len(views) / columns)
    black = torch.zeros_like(views[0])
    filled = [*views, *[black] * (rows * columns - len(views))]
    lines = [torch.cat(filled[i : i + columns], dim=2) for i in range(0, len(filled), columns)]
    return torch.cat(lines, dim=1)
