"""What the command line shows while it works: a bar with the time left for each stage."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

from .. import interrupts
from ..heap import trim
from ..progress import Bar, Stages, clock
from ..time_left import TimeLeft

BAR_WIDTH = 24
REFRESH_SECONDS = 0.1


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


def numbered_stages(total: int) -> Stages:
    """Return stages whose bars count themselves: `[2/6] edit ...`; each leaves no free memory."""
    count = iter(range(1, 1000))
    return Stages(lambda name: TextBar(f"[{next(count)}/{total}] {name}"), at_end=trim)


def say(text: str) -> None:
    """Write a line to standard output, at once: what is said of long work is read while it runs."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
