"""Opening a saved portrait for a command that makes one file of it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError
from ..files.networks import load_eg3d
from ..files.portrait import load_portrait
from ..files.staging import staged
from ..models.eg3d import EG3D
from ..types import Portrait
from .devices import chosen_device


@contextmanager
def opened_portrait(args: argparse.Namespace, file: Path) -> Iterator[tuple[Portrait, Path]]:
    """Yield the portrait of `file` and a staged folder for the one output file."""
    device = chosen_device(args.device)
    if args.out.is_dir():
        raise InputError(f"--out {args.out} is a folder; give a file name")
    with staged(args.out.parent) as folder:
        yield load_portrait(file, eg3d=given_eg3d(args)).to(device), folder


def given_eg3d(args: argparse.Namespace) -> EG3D | None:
    """Return the generator named on the command line; None: the embedded one is tried."""
    return load_eg3d(args.eg3d) if args.eg3d else None
