"""The options of `ablate`."""

from __future__ import annotations

import argparse
from pathlib import Path

from .shared import add_device, add_models, add_networks, add_out


def add_ablate(commands: argparse._SubParsersAction) -> None:
    """Add `ablate`."""
    p = commands.add_parser(
        "ablate",
        help="compare the method with its ablations and rivals over styles and heads",
        description="Make a matrix: every method on every pair of a style and a head, each "
        "measured as `evaluate` does. A stopped matrix goes on where it was; several of these "
        "commands may share one --out. At the end results.json and results.png are made of all "
        "that is there. With --report nothing is computed: tables and figures of kept results.",
    )
    p.add_argument(
        "--short",
        action="store_true",
        help="less of everything, so that two cores need about an hour and a half: 26 views, 100 "
        "steps, a tenth of the rivals' steps, 6 styles, 2 heads; without it, the paper's numbers, "
        "12 styles, 3 heads: days of a core",
    )
    p.add_argument(
        "--methods", nargs="+", metavar="NAME", help="which methods, in the order of running"
    )
    p.add_argument(
        "--styles",
        nargs="+",
        metavar="STYLE",
        help="which styles: names of the embedded models' world, or any words with other models",
    )
    p.add_argument("--heads", type=int, metavar="N", help="how many heads")
    p.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="processes of one thread each (default 1, in this process)",
    )
    p.add_argument(
        "--collect",
        action="store_true",
        help="make no cell: say how much is finished, and results of what is there",
    )
    p.add_argument(
        "--report",
        type=Path,
        metavar="FOLDER",
        help="make FOLDER.md and the chart from the last results in FOLDER, such as docs/results",
    )
    p.add_argument(
        "--i2t-flat",
        type=Path,
        metavar="PATH",
        help="an I2T whose code has no spatial dimension, made by pretrain --code-size 1 (default: "
        "that of the clay training in clay_data, where there is one)",
    )
    add_networks(p)
    p.add_argument(
        "--text-to-image",
        type=Path,
        metavar="PATH",
        help="folder of the text-to-image model that DreamFusion asks (default: the editor's, used "
        "without its image)",
    )
    add_out(p, "ablation", "folder that keeps the matrix (default ablation)")
    add_device(p)
    add_models(p, "eg3d", "i2t", "editor", "perceptual")
