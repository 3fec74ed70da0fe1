"""The stages of a run: how long each took, and a bar with the time left for whoever watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from .. import interrupts
from ..progress import Progress
from ..time_left import TimeLeft

BAR_WIDTH = 24
REFRESH_SECONDS = 0.1


class Bar:
    """A `Progress` with an end. This one shows nothing."""

    def __call__(self, done: float, total: int, preview: Any = None) -> None:
        """Take note of a report."""

    def close(self, *, finished: bool) -> None:
        """End the display; `finished` is False when the stage was stopped."""


class TextBar(Bar):
    """One line of text that is redrawn; in a log, only the line of the finished stage.

    A report raises KeyboardInterrupt when a Ctrl-C has got lost since the last one.
    """

    def __init__(self, name: str, *, stream: TextIO | None = None) -> None:
        self.name = name
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.start = time.monotonic()
        self.drawn_at = -REFRESH_SECONDS
        self.left = TimeLeft()
        self.doing = ""
        self.width = 0
        if self.live:
            self._write(f"{name} ...", end="")

    def __call__(self, done: float, total: int, preview: Any = None) -> None:
        interrupts.check()
        now = time.monotonic()
        self.left.note(done, total, now)
        if self.live and now - self.drawn_at >= REFRESH_SECONDS:
            self.drawn_at = now
            line = bar_line(self.name, done, total, self.left.seconds(now), doing=self.doing)
            self._write(line, end="")

    def phase(self, name: str, done: int, total: int) -> None:
        """Take note of what the next report is about."""
        self.doing = f"{name} {done}/{total}"
        self.left.enter(name)

    def close(self, *, finished: bool) -> None:
        """Leave the time taken; a stopped stage stays as it was drawn."""
        if finished:
            self._write(f"{self.name} {clock(time.monotonic() - self.start)}", end="\n")
        elif self.live:
            self._write("", end="\n")

    def _write(self, text: str, end: str) -> None:
        lead = "\r" if self.live and text else ""
        self.stream.write(lead + text.ljust(self.width if text else 0) + end)
        self.stream.flush()
        self.width = len(text)


class Stages:
    """Hands out one progress per stage and keeps the seconds each took in `times`."""

    def __init__(self, open_bar: Callable[[str], Bar] | None = None) -> None:
        self.open_bar = open_bar or (lambda name: Bar())
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
            self.times[name] = self.times.get(name, 0.0) + time.monotonic() - start


def bar_line(
    name: str, done: float, total: int, left: float | None = None, *, doing: str = ""
) -> str:
    """Return a line such as `edit views [############............]  50% 0:12 left, step 3/6`.

    `left` is in seconds, None while nobody knows.
    """
    share = min(max(done / total, 0.0), 1.0) if total else 0.0
    filled = round(share * BAR_WIDTH)
    bar = "#" * filled + "." * (BAR_WIDTH - filled)
    said = [f"{clock(left)} left"] if left is not None and done < total else []
    said += [doing] if doing else []
    return f"{name} [{bar}] {share:4.0%} {', '.join(said)}".rstrip()


def clock(seconds: float) -> str:
    """Return minutes:seconds, or hours:minutes:seconds from one hour on."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
