"""A batch that does not fit into memory is learned from in pieces, with the same result.

The gradient of a mean over a batch is the mean of the gradients of its pieces, weighted by their
sizes: up to rounding, a step does the same in however many pieces it is taken.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from torch import Tensor

from ..errors import is_out_of_memory

_log = logging.getLogger(__name__)

# rows of the batch -> means over them, [] each; the first is lowered
Losses = Callable[[slice], tuple[Tensor, ...]]


class Pieces:
    """Into how many pieces a batch is split: one, until memory runs out, then twice as many."""

    def __init__(self) -> None:
        self.count = 1

    def backward(
        self,
        rows: int,  # of the batch
        losses: Losses,
        clear: Callable[[], None],  # forgets all gradients
    ) -> tuple[Tensor, ...]:
        """Add up the gradients of the batch and return its losses, without gradients.

        Raises what PyTorch raised when not even a single row fits.
        """
        while True:
            clear()
            try:
                return self._backward(rows, losses)
            except RuntimeError as error:
                if self.count >= rows or not is_out_of_memory(error):
                    raise
            # only here is what the failed try had computed forgotten, with its traceback
            self.count = min(rows, 2 * self.count)
            _log.warning("memory ran out: batches of %d are split in %d", rows, self.count)

    def _backward(self, rows: int, losses: Losses) -> tuple[Tensor, ...]:
        sums: list[Tensor] = []
        size = -(-rows // self.count)
        for first in range(0, rows, size):
            part = slice(first, min(first + size, rows))
            share = (part.stop - part.start) / rows
            values = losses(part)
            if share < 1:
                values = tuple(value * share for value in values)
            values[0].backward()
            detached = [value.detach() for value in values]
            sums = [a + b for a, b in zip(sums, detached, strict=True)] if sums else detached
        return tuple(sums)
