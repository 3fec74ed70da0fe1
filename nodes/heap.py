"""The heap of a server, trimmed once the memory of a run was freed. Read `trim_soon`.

After one run of the embedded models and ComfyUI's /free, a server still held 320 MB that nothing
used; `freestyle_core/heap.py` says why.
"""

import asyncio
from contextlib import suppress

from server import PromptServer

from ..freestyle_core.heap import trim

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
    _planned.append(loop.call_later(DELAY, loop.run_in_executor, None, trim))
