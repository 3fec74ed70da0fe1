"""Options that several commands have."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_out(parser: argparse.ArgumentParser, default: str, text: str) -> None:
    """Add --out."""
    parser.add_argument("--out", type=Path, default=Path(default), metavar="PATH", help=text)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add --device and --debug."""
    parser.add_argument(
        "--device",
        default="auto",
        help="cpu, cuda, cuda:1, mps or auto (default auto: cuda if there is one)",
    )
    parser.add_argument("--debug", action="store_true", help="show where an error happened")


def add_model(parser: argparse.ArgumentParser, part: str) -> None:
    """Add the option that names a model: --eg3d, --i2t, --editor, --perceptual."""
    kinds = {
        "editor": "folder in diffusers layout, or a .safetensors or .ckpt checkpoint",
        "eg3d": ".safetensors or official .pkl file",
        "i2t": ".safetensors file, which is then trained as in the paper unless --train "
        'says otherwise, "fresh" for one without pre-training, or "none"',
    }
    what = kinds.get(part, ".safetensors file")
    default = "the embedded one"
    if part == "perceptual":
        what += ', or "vgg" for VGG-LPIPS'
        default = "vgg for large pictures if its weights are here, else the embedded one"
    parser.add_argument(
        f"--{part}", type=Path, metavar="PATH", help=f"{part} model, a {what} (default: {default})"
    )
