"""The options of `evaluate`."""

from __future__ import annotations

import argparse
from pathlib import Path

from .shared import add_device, add_models, add_networks


def add_evaluate(commands: argparse._SubParsersAction) -> None:
    """Add `evaluate`."""
    p = commands.add_parser(
        "evaluate",
        help="say in numbers and in one picture how good a portrait is",
        description="Measure a saved portrait on 25 held-out views and a path of 36 frames: how "
        "near it is to the style's words (CLIP), how well its views agree and how much better than "
        "the edited views it was learnt from, how near it stays to them and to the original head, "
        "and how its surface is. Nothing is downloaded unless --download is given.",
    )
    p.add_argument("portrait", type=Path, help="a portrait.safetensors")
    p.add_argument("--prompt", help="the style's words (default: those the portrait was made with)")
    p.add_argument(
        "--original",
        type=Path,
        metavar="PATH",
        help="the portrait before it was restyled (default: made again from the seed that the "
        "portrait names)",
    )
    p.add_argument(
        "--edited",
        type=Path,
        metavar="PATH",
        help="the edited views: the folder of a run, its edited.png, or a folder of pictures, the "
        "front first (default: edited.png beside the portrait)",
    )
    add_networks(p)
    p.add_argument(
        "--download", action="store_true", help="fetch the CLIP that is named, if it is not here"
    )
    p.add_argument("--json", type=Path, metavar="PATH", help="write scores and protocol, .json")
    p.add_argument("--picture", type=Path, metavar="PATH", help="write the picture, .png")
    add_device(p)
    add_models(p, "eg3d", "perceptual")
