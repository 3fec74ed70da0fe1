"""Memory that the C library keeps after much was freed, and what Python looks for in it.

`trim`: glibc keeps freed blocks of less than 32 MB, nearly all tensors on a CPU, for itself, so
that a process holds what its hungriest stage needed until it ends. `uncollected`: the search for
cycles takes a twelfth of the time of importing diffusers and transformers, and finds nothing.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def trim() -> None:
    """Give back what is free; nothing happens where the C library is not glibc."""
    give_back = malloc_trim()
    if give_back is not None:
        give_back(0)


def malloc_trim() -> Callable[[int], int] | None:
    """Return glibc's function, None where there is none."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # not in macOS or musl; no CDLL(None) in Windows
        return None


@contextmanager
def uncollected() -> Iterator[None]:
    """Look for no garbage meanwhile, where a process loads what it keeps."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
