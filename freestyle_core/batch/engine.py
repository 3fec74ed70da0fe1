"""What an engine does for a batch: it holds workers, gives them jobs and says what they report.

`local.py` has processes of this machine, `ray_engine.py` actors of a cluster. Which job comes next
is `run.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

READY, SHARE, OUTCOME, LOST, REFUSED = "ready", "share", "outcome", "lost", "refused"
AGAIN = "again"


@dataclass(frozen=True)
class Event:
    """A report of a worker.

    READY: it has loaded its models. SHARE: (how much of its job is done, 0 to 1, and the newest
    picture as PNG or None). OUTCOME: an `Outcome`. LOST: it ended by itself, and why; a new one
    takes its place. AGAIN: the same, and the new one has its job already. REFUSED: it cannot work
    at all, and why.
    """

    worker: int
    kind: str
    value: Any = None


class Engine(Protocol):
    """Workers, numbered from 0. Used as a context manager; its end stops them."""

    workers: int

    def __enter__(self) -> Engine: ...

    def __exit__(self, *error: object) -> None: ...

    def give(self, worker: int, task: Any) -> None:
        """Give a `Task` to a worker that is ready and has none."""

    def events(self, seconds: float) -> list[Event]:
        """Return what has been reported, after waiting at most so long for a first report."""
