"""Progress is a plain callable passed down as an argument; cancelling means that it raises.

`Stages` hands one out for every stage of a run and keeps how long each took.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor


class Progress(Protocol):
    """Report that `done` of `total` steps are finished; may raise to cancel the run.

    `done` may be a step and a share of the next, and the same `done` may come again: long work asks
    in between whether it shall go on. `preview` is an optional image [3,H,W] in [0,1] of what has
    been made so far. One with a method `phase`, as of `Phased`, is told what is being done.
    """

    def __call__(self, done: float, total: int, preview: Tensor | None = None, /) -> None: ...


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


class Bar:
    """A `Progress` with an end. This one shows nothing."""

    def __call__(self, done: float, total: int, preview: Any = None) -> None:
        """Take note of a report."""

    def close(self, *, finished: bool) -> None:
        """End the display; `finished` is False when the stage was stopped."""


class Stages:
    """Hands out one progress per stage and keeps the seconds each took in `times`.

    `at_end` is called after every stage, for instance to give memory back.
    """

    def __init__(
        self,
        open_bar: Callable[[str], Bar] | None = None,
        *,
        at_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.open_bar, self.at_end = open_bar or (lambda name: Bar()), at_end
        self.times: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        """Yield the progress of a stage; its bar is closed whether it ends well or not."""
        bar, start, finished = self.open_bar(name), time.monotonic(), False
        try:
            yield bar
            finished = True
        finally:
            bar.close(finished=finished)
            self.at_end()
            self.times[name] = self.times.get(name, 0.0) + time.monotonic() - start


def clock(seconds: float) -> str:
    """Return minutes:seconds, or hours:minutes:seconds from one hour on."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
