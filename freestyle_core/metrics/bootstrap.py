"""Means of scores over styles and heads, and how far they can be trusted.

A score is measured once for each pair of a style and a head. Other styles and other heads would
have given another mean; the interval says how other, by drawing styles and heads anew, both with
replacement, and taking the mean of the pairs that were drawn (Owen's pigeonhole bootstrap). Read
`bootstrap`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError, ShapeError
from ..seeds import generator

LEVEL = 0.95
DRAWS = 4000


@dataclass(frozen=True)
class Interval:
    """A mean and the bounds that its bootstrap keeps within."""

    mean: float
    low: float | None  # None: a single pair says nothing of the spread
    high: float | None
    count: int  # of pairs that were measured


def bootstrap(
    scores: Tensor,  # [S,H], of S styles and H heads; NaN where nothing was measured
    *,
    level: float = LEVEL,  # share of the drawn means between the bounds
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval | None:
    """Return the mean over the measured pairs with its bounds; None where nothing was measured.

    Bounds are percentiles. For scores a_s + b_h the drawn means vary by var(a) / S + var(b) / H,
    each variance that of the measured values. A draw that meets no measured pair is left out.
    """
    if scores.ndim != 2 or 0 in scores.shape:
        raise ShapeError(f"scores must be [S,H] of styles and heads, got {tuple(scores.shape)}")
    if not 0 < level < 1 or draws < 1:
        raise InputError(f"level must lie between 0 and 1 and draws be positive, got {level}")
    values = scores.double()
    known = ~values.isnan()
    count = int(known.sum())
    if not count:
        return None
    mean = float(values[known].mean())
    if count == 1:
        return Interval(mean, None, None, 1)
    styles, heads = values.shape
    random = generator(seed)
    # how often each style and each head is drawn
    rows = _drawn(draws, styles, random)  # [B,S]
    columns = _drawn(draws, heads, random)  # [B,H]
    sums = torch.einsum("bs,sh,bh->b", rows, values.nan_to_num(0.0), columns)
    weights = torch.einsum("bs,sh,bh->b", rows, known.double(), columns)
    means = (sums / weights)[weights > 0]
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=means.dtype)
    low, high = torch.quantile(means, ends).tolist()
    return Interval(mean, low, high, count)


def _drawn(draws: int, count: int, random: torch.Generator) -> Tensor:
    """Return [draws,count] how often each of `count` things is among as many drawn ones."""
    index = torch.randint(count, (draws, count), generator=random)
    ones = torch.ones(draws, count, dtype=torch.float64)
    return torch.zeros(draws, count, dtype=torch.float64).scatter_add_(1, index, ones)
