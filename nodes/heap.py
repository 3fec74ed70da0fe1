"""Memory that the C library keeps after much was freed, given back to the system.

glibc keeps freed blocks of less than 32 MB, nearly all tensors on a CPU, for itself: after one run
of the embedded models and ComfyUI's /free, a server still held 320 MB that nothing used. Where the
C library is another one, nothing is done. Read `trim_soon`.
"""

import asyncio
import ctypes
from collections.abc import Callable
from contextlib import suppress

from server import PromptServer

DELAY = 1.0  # seconds; by then, what is being freed is gone, with the pictures beside it

_planned: list[asyncio.TimerHandle] = []  # at most one; touched by the server's loop alone


def trim_soon() -> None:
    """Trim the heap in a second, once for all calls until then, beside the work of the server.

    Made to be called while something is being freed, in whatever thread: it takes no lock.
    """
    loop = PromptServer.instance.loop
    with suppress(RuntimeError):  # the server is stopping, its loop is closed
        loop.call_soon_threadsafe(_plan, loop)


def _plan(loop: asyncio.AbstractEventLoop) -> None:
    while _planned:
        _planned.pop().cancel()
    _planned.append(loop.call_later(DELAY, loop.run_in_executor, None, _trim))


def _trim() -> None:
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


def _malloc_trim() -> Callable[[int], int] | None:
    """Return glibc's function, None where there is none."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # not in macOS or musl; no CDLL(None) in Windows
        return None
