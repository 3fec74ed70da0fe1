"""How many steps fit into a time, judged anew after every step."""

from __future__ import annotations

import time
from collections.abc import Callable

SHARE = 0.97  # of the time that is planned with; the rest is for steps slower than the mean


class Pace:
    """A training of at most `most` steps that shall end within `seconds`.

    `total` is how many steps it will have made by then, as far as is known. The first step is left
    out of the mean, as it does work of its own.
    """

    def __init__(
        self, most: int, seconds: float, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.most, self.clock = most, clock
        self.end = clock() + seconds * SHARE
        self.total = most
        self._done = 0
        self._first: float | None = None  # when the first step had ended

    def stepped(self) -> None:
        """Take note of the end of a step."""
        now = self.clock()
        self._done += 1
        if self._first is None:
            self._first = now
            fits = self._done if now >= self.end else self.most
        else:
            mean = (now - self._first) / (self._done - 1)
            fits = self._done + int(max(0.0, self.end - now) / max(mean, 1e-9))
        self.total = max(self._done, min(self.most, fits))

    @property
    def over(self) -> bool:
        """Whether no further step fits."""
        return self._done >= self.total
