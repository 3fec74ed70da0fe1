"""The options of `portrait`."""

from __future__ import annotations

import argparse

from .shared import (
    add_device,
    add_editor_precision,
    add_head,
    add_models,
    add_out,
    add_turntable,
)

STYLE_HELP = 'the style, such as "a bronze statue" or "a zombie"'


def add_portrait(commands: argparse._SubParsersAction) -> None:
    """Add `portrait`."""
    p = commands.add_parser(
        "portrait",
        help="make a stylised 3D portrait from a description",
        description="Make a stylised 3D portrait: turntable.mp4, front.png, views.png, edited.png "
        "(all edited views, for `evaluate`), mesh.glb, portrait.safetensors and run.json. Ctrl-C "
        "stops at any time and leaves no half-made file.",
    )
    p.add_argument("style", help=STYLE_HELP)
    add_head(p)
    add_run(p)


def add_run(p: argparse.ArgumentParser) -> None:
    """Add the options of every command that makes stylised portraits and their files."""
    p.add_argument("--style2", metavar="STYLE", help="a second style to make and to mix with")
    p.add_argument(
        "--mix",
        type=int,
        metavar="N",
        help="columns of the mixing sheet, with --style2 (default 5)",
    )
    p.add_argument(
        "--pack",
        action="store_true",
        help="take the style from the pack of these words instead of editing and training: done "
        'in seconds; "style list" shows the packs that there are',
    )
    p.add_argument(
        "--preset",
        choices=("fast", "balanced", "quality", "paper"),
        help="how much work is done (default balanced); the options below go before it. paper: "
        "everything as the paper has it, which takes hours on a CPU with full-size models",
    )
    p.add_argument(
        "--quick",
        action="store_const",
        dest="preset",
        const="fast",
        help="a rougher portrait in less time: the same as --preset fast",
    )
    p.add_argument(
        "--budget",
        type=float,
        metavar="SECONDS",
        help="the best portrait that is done in about this time, with all its files: chooses the "
        "number of views and of fine-tuning steps, as this machine is measured to work",
    )
    p.add_argument(
        "--views",
        type=int,
        metavar="N",
        help="N x N views are edited, 2 to 32; more is steadier and slower",
    )
    p.add_argument(
        "--noise",
        choices=("screen", "surface"),
        help="where the edit's noise is fixed: the same in every picture, or on the head's surface "
        "(default screen)",
    )
    p.add_argument(
        "--reference",
        choices=("front", "none"),
        help="what every picture sees besides itself while edited: the front view, or nothing "
        "(default none)",
    )
    p.add_argument(
        "--tau", type=float, help="how much the edit may change, above 0 to 1 (default 0.9)"
    )
    p.add_argument("--steps", type=int, help="denoising steps of the edit")
    p.add_argument(
        "--train",
        choices=("planes", "i2t", "both", "modulation"),
        help="what learns the edited views: the head's planes themselves (the default), the I2T "
        "network as in the paper, both together, or two modulation layers in the generator, the "
        "paper's ablation",
    )
    p.add_argument("--iterations", type=int, help="fine-tuning steps for each style")
    p.add_argument("--batch-size", type=int, metavar="N", help="views in each fine-tuning step")
    p.add_argument(
        "--robust",
        action="store_true",
        help="edited views that do not fit those around them count less in fine-tuning; needs "
        "6 x 6 views or more",
    )
    p.add_argument(
        "--reedit",
        action="store_true",
        help="edited views that do not fit those around them are edited again with another noise, "
        "and replaced where that fits better; needs 6 x 6 views or more",
    )
    add_turntable(p)
    add_out(p, "freestyle_out", "folder for the results (default freestyle_out)")
    add_device(p)
    add_models(p, "eg3d", "i2t", "editor", "perceptual")
    add_editor_precision(p)
