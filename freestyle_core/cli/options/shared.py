"""Options that several commands have."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_out(parser: argparse.ArgumentParser, default: str, text: str) -> None:
    """Add --out."""
    parser.add_argument("--out", type=Path, default=Path(default), metavar="PATH", help=text)


def add_head(parser: argparse.ArgumentParser) -> None:
    """Add --seed, --psi and --from: the head that is restyled."""
    parser.add_argument(
        "--seed", type=int, default=0, help="which person, 0 to 2^64 - 1 (default 0)"
    )
    parser.add_argument(
        "--psi",
        type=float,
        help="how far from the average head the person may be, 0 to 1 (default 0.7); at 1 "
        "`evaluate` knows the true heads of the embedded models",
    )
    parser.add_argument(
        "--from",
        type=Path,
        dest="start",
        metavar="FILE",
        help="begin with a saved portrait.safetensors in place of the head of the seed: restyle "
        "what is restyled already, or mixed",
    )


def add_turntable(parser: argparse.ArgumentParser) -> None:
    """Add --frames and --path of the turntable."""
    parser.add_argument("--frames", type=int, help="frames of the turntable (default 72)")
    _add_path(parser, "camera path of the turntable (default ellipse)")


def add_video(parser: argparse.ArgumentParser) -> None:
    """Add --frames, --path and --fps of a video that is the only result."""
    _add_path(parser, "ellipse and sweep stay in front, orbit goes all round (default ellipse)")
    parser.add_argument("--frames", type=int, default=72, help="frames of the video (default 72)")
    parser.add_argument("--fps", type=float, default=24.0, help="frames per second (default 24)")


def _add_path(parser: argparse.ArgumentParser, text: str) -> None:
    paths = ("ellipse", "sweep", "orbit")
    parser.add_argument("--path", choices=paths, default=paths[0], help=text)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add --device and --debug."""
    parser.add_argument(
        "--device",
        default="auto",
        help="cpu, cuda, cuda:1, mps or auto (default auto: cuda if there is one)",
    )
    parser.add_argument("--debug", action="store_true", help="show where an error happened")


def add_editor_precision(parser: argparse.ArgumentParser) -> None:
    """Add --editor-precision."""
    parser.add_argument(
        "--editor-precision",
        choices=("auto", "float32", "float16", "bfloat16"),
        default="auto",
        help="number format of the editor (default auto: float16 on a GPU that is good at it)",
    )


def add_angles(parser: argparse.ArgumentParser, yaw: str, pitch: str, **given: Any) -> None:
    """Add --yaw and --pitch with their help; `given` is theirs too."""
    for name, text in (("--yaw", yaw), ("--pitch", pitch)):
        parser.add_argument(name, type=float, metavar="DEG", help=text, **given)


def add_networks(parser: argparse.ArgumentParser) -> None:
    """Add --clip and --dino, the networks that scores ask."""
    parser.add_argument(
        "--clip",
        default="auto",
        metavar="NAME",
        help="auto, clay, B/32, L/14, a folder or file, or none (default auto: what is at hand)",
    )
    parser.add_argument(
        "--dino",
        default="auto",
        metavar="PATH",
        help="folder of a DINO ViT-S/16, auto or none (default auto: the hub's cache)",
    )


def add_models(parser: argparse.ArgumentParser, *parts: str) -> None:
    """Add the options of several models, see `add_model`."""
    for part in parts:
        add_model(parser, part)


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
