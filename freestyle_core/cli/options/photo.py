"""The options of `photo`."""

from __future__ import annotations

import argparse
from pathlib import Path

from .portrait import STYLE_HELP, add_run


def add_photo(commands: argparse._SubParsersAction) -> None:
    """Add `photo`."""
    p = commands.add_parser(
        "photo",
        help="make a stylised 3D portrait of a photograph",
        description="Find the face in a photograph, make a 3D portrait of it, and restyle that as "
        "`portrait` does: aligned.png, overlay.png (what was found), photo.safetensors (the "
        "portrait before it is restyled) beside all files of `portrait`. The embedded generator "
        "knows only heads like its own; photographs of people need official weights (--eg3d).",
    )
    p.add_argument("photo", type=Path, metavar="FILE", help="a JPEG, PNG, WebP or TIFF")
    p.add_argument("style", help=STYLE_HELP)
    p.add_argument(
        "--face", type=int, default=0, metavar="N", help="which face, 0 the largest (default 0)"
    )
    p.add_argument(
        "--points",
        metavar='"X,Y X,Y X,Y X,Y X,Y"',
        help="five points of the face in pixels, where none is found: left eye, right eye, nose, "
        "left and right corner of the mouth, as seen in the picture",
    )
    p.add_argument(
        "--by",
        choices=("auto", "i2t", "planes", "invert"),
        default="auto",
        help="how the photograph becomes a portrait: in one pass of the I2T, by planes that learn "
        "it from there, or by a search for the head and a tuning of the generator (default auto: "
        "the best there is for this EG3D)",
    )
    p.add_argument("--seed", type=int, default=0, help="of noise and training (default 0)")
    p.set_defaults(start=None, psi=None)
    add_run(p)
