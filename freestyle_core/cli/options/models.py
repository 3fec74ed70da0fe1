"""The options of what is done with models and files: `pretrain`, `convert`, `info`."""

from __future__ import annotations

import argparse
from pathlib import Path

from .shared import add_device, add_model, add_out


def add_pretrain(commands: argparse._SubParsersAction) -> None:
    """Add `pretrain`."""
    p = commands.add_parser(
        "pretrain",
        help="train an I2T network for another EG3D",
        description="Train the Image-to-Triplane network that the paper's way (portrait --train "
        "i2t or both) needs for your own EG3D. Beside --out lie a checkpoint, a log (.jsonl) and "
        "previews; after any stop, the same command with --resume goes on. Several graphics cards: "
        "torchrun --nproc_per_node N -m freestyle_core pretrain ...",
    )
    add_model(p, "eg3d")
    p.add_argument(
        "--steps",
        "--iterations",
        type=int,
        metavar="N",
        help="training steps (default 100000, the paper's)",
    )
    p.add_argument(
        "--batch",
        type=int,
        metavar="N",
        help="heads per step, of all processes together (default 4)",
    )
    p.add_argument("--rate", type=float, help="learning rate (default 0.002)")
    p.add_argument(
        "--code-size",
        type=int,
        metavar="K",
        help="side of the code w_s, a power of two; 1 is the paper's ablation without spatial "
        "dimension (default 32)",
    )
    p.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        help="bfloat16 is faster on a recent card, by a fifth or more: the I2T and the planes that "
        "it learns from; its weights stay float32 (default float32)",
    )
    p.add_argument("--seed", type=int, default=0, help="of the training heads (default 0)")
    p.add_argument(
        "--checkpoint",
        type=float,
        default=3.0,
        metavar="MINUTES",
        help="time between two checkpoints (default 3)",
    )
    p.add_argument(
        "--preview",
        type=int,
        default=1000,
        metavar="N",
        help="a preview sheet every N steps, 0 for none (default 1000)",
    )
    p.add_argument(
        "--validate",
        type=int,
        default=1000,
        metavar="N",
        help="PSNR on held-out heads every N steps, 0 for never (default 1000)",
    )
    p.add_argument(
        "--resume",
        action="store_true",
        help="go on from the checkpoint beside --out, if there is one",
    )
    add_out(p, "i2t.safetensors", "file to write (default i2t.safetensors)")
    add_device(p)


def add_convert(commands: argparse._SubParsersAction) -> None:
    """Add `convert`."""
    p = commands.add_parser(
        "convert",
        help="turn an official EG3D pickle into a safetensors file",
        description="Write the generator of an official EG3D network pickle, such as "
        "ffhq512-128.pkl, as a safetensors file. Nothing inside the pickle is run.",
    )
    p.add_argument("file", type=Path, help="an official .pkl")
    p.add_argument("out", type=Path, help="file to write, .safetensors")
    p.add_argument("--debug", action="store_true", help=argparse.SUPPRESS)


def add_info(commands: argparse._SubParsersAction) -> None:
    """Add `info`."""
    p = commands.add_parser(
        "info",
        help="show versions, devices and models, or what a file or a folder of results holds",
        description="Show versions, devices and the embedded models, what a file holds, or whether "
        "the files in a folder of results are all of the run that its record names.",
    )
    p.add_argument(
        "file",
        type=Path,
        nargs="?",
        help="a .safetensors file of this program, an official EG3D .pkl, or a folder of results",
    )
    p.add_argument("--debug", action="store_true", help=argparse.SUPPRESS)
