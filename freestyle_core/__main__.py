"""The command line: `python -m freestyle_core portrait "a bronze statue"`.

This file turns every failure into one line and an exit code. `cli/options/` reads the arguments;
the work is in `cli/commands/`, a module for each command, imported only when it starts, so that
help and mistakes answer at once.
Exit codes: 0 done, 1 failed, 2 wrong input, 128 + number when stopped by a signal: 130 by Ctrl-C,
143 by SIGTERM. A second signal stops at once, without waiting for a step to end.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from . import interrupts
from .cli import clock as clock  # first, for its time
from .cli.options.parser import make_parser
from .cli.streams import take_any_text
from .errors import Cancelled, FreeStyleError, WriteError, is_out_of_memory
from .heap import uncollected

# commands that measure against the true heads, where anyone knows them
ASK_FOR_TRUTH = ("ablate", "evaluate")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; messages go to stderr."""
    take_any_text()
    args = make_parser().parse_args(argv)
    with interrupts.listen():
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    try:
        with (
            interrupts.held(),
            uncollected(),
        ):  # some of what is imported here would swallow a Ctrl-C
            command = import_module(f".cli.commands.{args.command}", __package__)
            if args.command in ASK_FOR_TRUTH:
                args.world = _world
        interrupts.check()
        command.run(args)
    except (KeyboardInterrupt, Cancelled) as stop:
        return _stopped(str(stop))
    except WriteError as error:
        return _fail(f"error: {error}", 1)
    except FreeStyleError as error:
        # a plain FreeStyleError is a run that failed, its subclasses are wrong input
        return _fail(f"error: {error}", 1 if type(error) is FreeStyleError else 2)
    except BrokenPipeError:
        # the reader of our output has gone: leave without a second error at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError:
        return _fail("error: out of memory; try fewer views, or --quick", 1)
    except Exception as error:
        if interrupts.received() is not None:  # some library has made another error of it
            return _stopped()
        if getattr(args, "debug", False):
            raise
        return _fail(f"error: {_unexpected(error)}; add --debug to see where", 1)
    return 0


def _world() -> Any:
    """Return what the embedded models' world knows; `cli` lies below it and cannot ask itself."""
    return import_module(".clay.truth", __package__).WORLD


def _stopped(message: str = "") -> int:
    return _fail(message or "stopped; no unfinished file was left", interrupts.exit_code())


def _fail(message: str, code: int) -> int:
    sys.stderr.write(" ".join(message.split()) + "\n")
    return code


def _unexpected(error: Exception) -> str:
    if is_out_of_memory(error):
        return "out of memory; try fewer views, --quick or --device cpu"
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


if __name__ == "__main__":
    sys.exit(main())
