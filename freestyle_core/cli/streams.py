"""Standard output and error that take any text, whatever the console can show."""

from __future__ import annotations

import os
import sys


def take_any_text() -> None:
    """Let stdout and stderr write what their encoding lacks as an escape instead of failing.

    A style, a path or a file's description may hold any character; a console in cp1252 or ASCII
    does not. A program without a console has no streams at all: what it says goes nowhere.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
