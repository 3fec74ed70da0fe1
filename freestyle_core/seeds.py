"""Seeds from 0 to 2^64 - 1, which ComfyUI's nodes pass to each other, as random numbers.

PyTorch's generator on the CPU looks at the lower 32 bits alone, and numpy's takes no more. A seed
of more bits is therefore hashed to 32 first; a smaller one is used as it is, as always.
"""

from __future__ import annotations

import hashlib
import numbers

import torch

from .errors import InputError

MAX_SEED = 2**64 - 1
_PLAIN = 2**32  # seeds below are used as they are


def check_seed(seed: int) -> None:
    """Raise unless `seed` is a whole number from 0 to 2^64 - 1."""
    if not isinstance(seed, numbers.Integral) or not 0 <= seed <= MAX_SEED:
        raise InputError(f"the seed must be a whole number from 0 to {MAX_SEED}, got {seed!r:.60}")


def folded(seed: int) -> int:
    """Return the 32 bits that stand for a seed: itself where it has no more."""
    check_seed(seed)
    if seed < _PLAIN:
        return int(seed)
    return int.from_bytes(hashlib.sha256(int(seed).to_bytes(8, "little")).digest()[:4], "little")


def generator(seed: int) -> torch.Generator:
    """Return the random numbers (CPU) of a seed."""
    return torch.Generator().manual_seed(folded(seed))


def step_generator(seed: int, index: int) -> torch.Generator:
    """Return the random numbers (CPU) of one step of a run."""
    return torch.Generator().manual_seed(folded(seed) * 1_000_003 + index)
