"""The options of `style`: make a style pack, apply one, show many on one head, list them."""

from __future__ import annotations

import argparse
from pathlib import Path

from .shared import (
    add_device,
    add_editor_precision,
    add_head,
    add_models,
    add_out,
    add_turntable,
)


def add_style(commands: argparse._SubParsersAction) -> None:
    """Add `style`."""
    p = commands.add_parser(
        "style",
        help="style packs: small files that restyle any head in seconds",
        description="Style packs: a style learnt once, on several heads, as a small file that "
        "restyles every other head of its generator in seconds.",
    )
    whats = p.add_subparsers(dest="what", metavar="make|apply|show|list", required=True)
    _add_make(whats)
    _add_apply(whats)
    _add_show(whats)
    _add_list(whats)


def _add_make(whats: argparse._SubParsersAction) -> None:
    p = whats.add_parser(
        "make",
        help="learn a style on several heads and write it as a pack",
        description="Learn a style on several heads at once and write it as a pack. Some minutes "
        "on a CPU with the embedded models.",
    )
    p.add_argument("style", help='the style, such as "a bronze statue"')
    p.add_argument("--heads", type=int, help="how many heads it is learnt on, 1 to 64 (default 8)")
    p.add_argument(
        "--seed", type=int, default=0, help="the first of the heads; the others follow (default 0)"
    )
    p.add_argument(
        "--views", type=int, metavar="N", help="N x N views of each head are edited (default 4)"
    )
    p.add_argument("--iterations", type=int, help="training steps, for all heads together")
    p.add_argument(
        "--licence", default="", help="the licence under which the pack is passed on, as text"
    )
    add_out(p, "style.safetensors", "file to write (default style.safetensors)")
    add_device(p)
    add_models(p, "eg3d", "editor", "perceptual")
    add_editor_precision(p)


def _add_apply(whats: argparse._SubParsersAction) -> None:
    p = whats.add_parser(
        "apply",
        help="restyle a head with a pack",
        description="Restyle a head with a pack: front.png, views.png, turntable.mp4, mesh.glb, "
        "portrait.safetensors and run.json.",
    )
    p.add_argument("pack", help="a file, or the name of a pack that comes with this package")
    add_head(p)
    add_strength(p)
    add_turntable(p)
    add_out(p, "freestyle_out", "folder for the results (default freestyle_out)")
    add_device(p)
    add_models(p, "eg3d")


def _add_show(whats: argparse._SubParsersAction) -> None:
    p = whats.add_parser(
        "show",
        help="one head in many packs, as a page that turns it and flips through them",
        description="Write one page that shows a head plain and in each of some packs: drag to "
        "turn it, click to change the style. It needs no server.",
    )
    p.add_argument(
        "packs",
        nargs="*",
        metavar="PACK",
        help="files, or names of packs that come with this package; left out, all of those",
    )
    add_head(p)
    add_strength(p)
    p.add_argument(
        "--views",
        type=int,
        default=17,
        metavar="N",
        help="pictures of each style from left to right, an odd number (default 17)",
    )
    add_out(p, "styles.html", "page to write (default styles.html)")
    add_device(p)
    add_models(p, "eg3d")


def _add_list(whats: argparse._SubParsersAction) -> None:
    p = whats.add_parser(
        "list",
        help="show the packs that come with this package, or those in a folder",
        description="Show style packs: name, words, licence, size.",
    )
    p.add_argument("folder", type=Path, nargs="?", help="a folder; left out, the shipped packs")
    p.add_argument("--debug", action="store_true", help="show where an error happened")


def add_strength(parser: argparse.ArgumentParser) -> None:
    """Add --strength."""
    parser.add_argument(
        "--strength",
        type=float,
        default=1.0,
        help="how much of the style, 0 none, 1 as it was learnt, at most 2 (default 1)",
    )
