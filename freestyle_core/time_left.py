"""How long a run still takes, as a person wants to read it: a number that falls.

Steps are timed as they finish. The first one of a run, and the first of every named phase, is left
out: it loads, compiles and warms up. Between two steps the number counts down with the clock.
"""

from __future__ import annotations

from collections import deque

KEPT = 64  # newest steps that are averaged
LEAST = 2  # timed steps before anything is said
EARLY = 0.1  # share of the work up to which a new phase starts the measurement afresh
RISE = 1.2  # a new estimate up to so many times the shown one does not lift it


class TimeLeft:
    """The estimate of one run; tell it of every report, in seconds of a clock that never jumps."""

    def __init__(self) -> None:
        self._steps: deque[tuple[float, float]] = deque(maxlen=KEPT)  # how much, in how long
        self._phases: set[str] = set()
        self._last: tuple[float, float] | None = None  # done and time of the newest change
        self._origin = 0.0  # done at the start: a run that goes on
        self._warm = False  # whether the first step of the phase is over
        self._end: float | None = None  # when the run is expected to be over
        self._step = 0.0  # expected seconds of the step that is under way

    def enter(self, phase: str) -> None:
        """Take note that work of another kind begins."""
        if phase not in self._phases:
            self._phases.add(phase)
            self._warm = False

    def note(self, done: float, total: float, now: float) -> None:
        """Take note of a report; the same `done` may come again."""
        if self._last is None or done < self._last[0]:
            self._last, self._origin = (done, now), done
            return
        before, since = self._last
        if done == before:
            return
        self._last = (done, now)
        if not self._warm:
            self._warm = True
            if done - self._origin <= EARLY * (total - self._origin):
                self._steps.clear()
                self._end = None
            return
        self._steps.append((done - before, now - since))
        if len(self._steps) >= LEAST:
            pace = sum(s for _, s in self._steps) / sum(d for d, _ in self._steps)
            self._step = pace * (done - before)
            self._expect(now + pace * (total - done), now)

    def seconds(self, now: float) -> float | None:
        """Return the seconds left, or None while it is too early to say."""
        if self._end is None or self._last is None:
            return None
        # a step that is late holds the number; it does not count past what comes after it
        return max(0.0, self._end - min(now, self._last[1] + self._step))

    def _expect(self, end: float, now: float) -> None:
        if self._end is not None and now < self._end:
            shown, new = self._end - now, end - now
            if shown < new <= RISE * shown:
                return
        self._end = end
