"""What every stored number must be, whatever file it comes from: finite, of a believable size.

A damaged weight would load without a word and turn every picture into NaN; here it is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import FileFormatError

# trained weights stay below 1e4, counters of optimisers below 1e7; the squares of anything much
# larger overflow float32, and one flipped bit of an exponent makes 1e36 of 0.01
LARGEST = 1e10


def check_values(
    path: Path | str,
    state: Mapping[str, Tensor],
    *,
    dtype: torch.dtype = torch.float32,  # that the values are to be used in
) -> None:
    """Raise FileFormatError unless all floating values are finite, at most LARGEST and fit."""
    limit = torch.finfo(dtype).max
    for name, value in state.items():
        if not value.is_floating_point() or not value.numel():
            continue
        low, high = (bound.item() for bound in torch.aminmax(_comparable(value)))
        size = max(-low, high)
        if size <= min(LARGEST, limit):  # never when one of them is NaN
            continue
        if limit < size <= LARGEST:
            raise FileFormatError(
                f"{path} has a value of size {size:.1e} in tensor {name}, more than {dtype} can "
                f"hold ({limit:.0f}); load it in float32 or bfloat16"
            )
        what = "NaN or infinite values" if not size < float("inf") else f"a value of {size:.1e}"
        raise FileFormatError(
            f"{path} has {what} in tensor {name}, as no trained network has; the file is damaged "
            "or of a run that diverged: copy it again or take another"
        )


def _comparable(value: Tensor) -> Tensor:
    return value.float() if value.dtype.itemsize == 1 else value  # float8 knows no order
