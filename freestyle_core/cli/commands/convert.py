"""`convert`: an official EG3D pickle as a safetensors file."""

from __future__ import annotations

import argparse

from ...errors import InputError
from ...files.names import ending
from ...files.networks import convert_official
from ...files.staging import staged
from ..console import say


def run(args: argparse.Namespace) -> None:
    """Write an official EG3D pickle as a safetensors file."""
    if ending(args.out) != ".safetensors":
        raise InputError(f"the second file must end in .safetensors, got {args.out.name!r}")
    size = args.file.stat().st_size if args.file.is_file() else 0
    with staged(args.out.parent, needed_mb=size / 2**20) as folder:
        config = convert_official(args.file, folder / args.out.name)
    say(f"{args.out}: {config.name}, {config.licence}")
