"""The parser of the command line: `ADD_COMMANDS` has one function for each command.

Nothing here imports torch, so that help and mistakes answer at once.
"""

from __future__ import annotations

import argparse
from typing import NoReturn

from ... import __version__
from .ablate import add_ablate
from .batch import add_batch
from .bench import add_bench
from .evaluate import add_evaluate
from .invert import add_invert
from .models import add_convert, add_info, add_pretrain
from .photo import add_photo
from .portrait import add_portrait
from .saved import add_mesh, add_mix, add_render, add_splat
from .style import add_style

ABOUT = """\
Make a 3D portrait in a style that you describe: a head that can be turned, mixed with another
style, and exported as a mesh. Everything works offline with the embedded "clay" models; a style is
any short description.

  python -m freestyle_core portrait "a bronze statue"
  python -m freestyle_core portrait "an elf" --style2 "a zombie" --mix 7 --out elf_zombie
  python -m freestyle_core portrait "sand" --seed 12 --quick
"""
MORE = 'Add --help to a command for its options, such as "portrait --help".'

ADD_COMMANDS = (
    add_portrait,
    add_style,
    add_photo,
    add_batch,
    add_invert,
    add_render,
    add_mix,
    add_mesh,
    add_splat,
    add_evaluate,
    add_pretrain,
    add_convert,
    add_info,
    add_bench,
    add_ablate,
)


class OneLineParser(argparse.ArgumentParser):
    """Reports a mistake in one line instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = OneLineParser(
        prog="python -m freestyle_core",
        description=ABOUT,
        epilog=MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"freestyle {__version__}")
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, parser_class=OneLineParser
    )
    for add in ADD_COMMANDS:
        add(commands)
    return parser
