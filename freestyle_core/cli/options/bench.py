"""The options of `bench`."""

from __future__ import annotations

import argparse
from pathlib import Path

from .shared import add_device

STAGES = ("edit", "render", "finetune")


def add_bench(commands: argparse._SubParsersAction) -> None:
    """Add `bench`."""
    p = commands.add_parser(
        "bench",
        help="measure how long each stage takes, beside the naive way",
        description="Measure each stage beside the naive way, by turns in one process: edits by "
        "diffusers' own pipeline picture by picture; frames with planes made anew for each; "
        "fine-tuning that encodes the front and the target for every view. `same work` is ours "
        "with the paper's settings, as the naive way has them.",
    )
    p.add_argument(
        "--stages",
        nargs="+",
        default=STAGES,
        choices=(*STAGES, "whole"),
        metavar="STAGE",
        help="edit, render, finetune (these three by default), or whole: a portrait from end to "
        "end, once each way, which takes minutes",
    )
    p.add_argument(
        "--preset",
        choices=("fast", "balanced", "quality", "paper"),
        default="balanced",
        help="what ours is measured with besides (default balanced)",
    )
    p.add_argument(
        "--full-size",
        action="store_true",
        help="networks of the official sizes with random weights instead of the embedded ones",
    )
    p.add_argument(
        "--repeats", type=int, default=3, metavar="N", help="runs of each way (default 3)"
    )
    p.add_argument(
        "--views",
        type=int,
        metavar="N",
        help="views to edit and frames to render in a run (default 4; full size on a CPU 1; on a "
        "GPU 16)",
    )
    p.add_argument(
        "--tune-steps",
        type=int,
        metavar="N",
        help="fine-tuning steps in a run (default 10; full size on a CPU 2; on a GPU 30)",
    )
    p.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="denoising steps, of the paper's and the preset's edit (default: their own)",
    )
    p.add_argument("--out", type=Path, metavar="FILE", help="write all numbers, as .json")
    add_device(p)
