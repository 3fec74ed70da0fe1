"""The options of `invert`."""

from __future__ import annotations

import argparse
from pathlib import Path

from .shared import add_angles, add_device, add_models, add_out


def add_invert(commands: argparse._SubParsersAction) -> None:
    """Add `invert`."""
    p = commands.add_parser(
        "invert",
        help="make a 3D portrait of a picture",
        description="Make a portrait of a picture of a head: a generator is tuned to it until its "
        "head looks like the picture. The picture has to be square, with the head as large and in "
        "the same place as in pictures of the generator; the embedded one knows only heads like "
        "its own. The file carries the tuned generator and needs no other. Render, mesh and mix it "
        "as any portrait.",
    )
    p.add_argument("image", type=Path, help="the picture, such as a .png or .jpg")
    add_angles(
        p,
        "how far to its left the head is seen from, as with render (default 0)",
        "how far from above it is seen (default 0)",
        default=0.0,
    )
    p.add_argument(
        "--search-steps", type=int, metavar="N", help="steps to a similar head (default 160)"
    )
    p.add_argument(
        "--tune-steps",
        type=int,
        metavar="N",
        help="steps from there to the picture, at most (default 200)",
    )
    p.add_argument("--seed", type=int, default=0, help="of the search (default 0)")
    p.add_argument(
        "--picture",
        type=Path,
        metavar="FILE",
        help="write the picture beside the portrait's own views, as .png",
    )
    add_out(p, "portrait.safetensors", "file to write (default portrait.safetensors)")
    add_device(p)
    add_models(p, "eg3d", "perceptual")
