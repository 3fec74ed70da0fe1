"""Ctrl-C and SIGTERM: remembered, so that no import can swallow them, and met where it is safe.

A program calls `listen` once. From then on a first signal is noted and, except inside `held`,
raises KeyboardInterrupt as usual; wherever that was lost (some libraries catch everything while
they are imported) or held back, the next `check` raises it again. A second signal acts at once, a
third is the system's own. Without `listen`, as under ComfyUI, nothing here does anything.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from .errors import Cancelled

# the last two exist on one system each; a closed terminal or window ends a run as tidily as Ctrl-C
KINDS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
)
# wrappers such as torchrun and uv pass on a Ctrl-C that the terminal has sent to us as well
SAME_SECONDS = 0.5


class _State:
    """What has been received; signals reach the main thread only, so no lock is needed."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.at = 0.0
        self.urgent = False  # there was a second one
        self.held = 0  # how many `held` are open
        self.listening = True


_state = _State()


@contextmanager
def listen() -> Iterator[None]:
    """Take note of the signals that end a program; afterwards everything is as it was before.

    A signal that is ignored, as under nohup, stays ignored.
    """
    global _state
    if threading.current_thread() is not threading.main_thread():
        yield  # Python hands signals to the main thread only
        return
    _state = _State()
    before = {}
    for kind in KINDS:
        handler = signal.getsignal(kind)
        if handler is not signal.SIG_IGN and handler is not None:
            before[kind] = handler
            signal.signal(kind, _note)
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
        _state.listening = False


@contextmanager
def held() -> Iterator[None]:
    """Only note a first signal inside; `check` or the next one raises it."""
    state = _state
    state.held += 1
    try:
        yield
    finally:
        state.held -= 1


def check(message: str = "") -> None:
    """Raise what was noted: Cancelled with `message`, else KeyboardInterrupt."""
    if _state.first is not None and _state.listening:
        raise Cancelled(message) if message else KeyboardInterrupt


def received() -> int | None:
    """Return the number of the first signal since `listen`; None: there was none."""
    return _state.first


def exit_code() -> int:
    """Return the exit code of a stopped program: 128 + signal, 130 for Ctrl-C."""
    return 128 + (_state.first or signal.SIGINT)


def _note(number: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    if _state.first is None:
        _state.first, _state.at = number, now
        if _state.held:
            return
    elif now - _state.at < SAME_SECONDS and not _state.urgent:
        return
    else:
        _state.urgent = True
        for kind in KINDS:
            if signal.getsignal(kind) is _note:
                with suppress(ValueError, OSError):
                    signal.signal(kind, signal.SIG_DFL)
    raise KeyboardInterrupt
