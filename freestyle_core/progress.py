"""Progress is a plain callable passed down as an argument; cancelling means that it raises."""

from typing import Protocol

from torch import Tensor


class Progress(Protocol):
    """Report that `done` of `total` steps are finished; may raise to cancel the run.

    `preview` is an optional image [3,H,W] in [0,1] of what has been made so far.
    """

    def __call__(self, done: int, total: int, preview: Tensor | None = None) -> None: ...


def no_progress(done: int, total: int, preview: Tensor | None = None) -> None:
    """Ignore all reports."""
