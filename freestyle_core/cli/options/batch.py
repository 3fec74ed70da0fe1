"""The options of `batch`."""

from __future__ import annotations

import argparse
from pathlib import Path

from .shared import add_device, add_editor_precision, add_models, add_out

EXAMPLE = """\
A job file in TOML; every entry stands for all combinations of its prompts, seeds and presets:

  [defaults]
  preset = "fast"

  [[jobs]]
  prompts = ["a bronze statue", "an elf"]
  seeds = "1-6"

or in CSV, with a line for each: prompt,seed,preset. See docs/batch.md.

  python -m freestyle_core batch jobs.toml --out portraits --workers 2
  python -m freestyle_core batch status portraits
"""


def add_batch(commands: argparse._SubParsersAction) -> None:
    """Add `batch`."""
    p = commands.add_parser(
        "batch",
        help="make many portraits from a job file, by several processes, cards or machines",
        description="Make every portrait that a job file asks for, each in a folder of its own, "
        "and index.html to look at them. After any stop the same command goes on; several may "
        "work on one folder at the same time.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("file", metavar="FILE", help='a .toml or .csv job file; or the word "status"')
    p.add_argument(
        "folder", nargs="?", type=Path, help="after status: the folder of the batch to tell about"
    )
    p.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that share the processor's threads, or the cards (default: one for each "
        "card, else one)",
    )
    p.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="local: processes of this machine (the default); ray: actors of Ray, on one machine "
        "or a cluster, for which the package ray has to be installed",
    )
    p.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="with ray: the head node of a cluster that is there, or auto (default: none, Ray is "
        "started on this machine for this run)",
    )
    p.add_argument(
        "--results",
        choices=("folder", "bytes"),
        default="folder",
        help="with ray: whether workers write into --out, which all machines share (the default), "
        "or send their files to this machine",
    )
    p.add_argument(
        "--no-share",
        action="store_false",
        dest="share",
        help="keep no views and edits for other jobs: for many machines with a slow disk, where "
        "making them anew is faster than reading them (docs/scale.md)",
    )
    p.add_argument(
        "--json", action="store_true", help="tell everything as JSON, an object in each line"
    )
    p.add_argument(
        "--dry-run", action="store_true", help="check the job file and say what would be made"
    )
    add_out(p, "batch_out", "folder of the results (default batch_out)")
    add_device(p)
    add_models(p, "eg3d", "i2t", "editor", "perceptual")
    add_editor_precision(p)
