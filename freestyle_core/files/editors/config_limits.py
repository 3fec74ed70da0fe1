"""What an editor folder's configs ask for, checked before any memory is taken.

diffusers and transformers build a network as large as its config says, however small the weights
beside it are. A damaged or hostile config would take all memory, or hours; here it is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from ...errors import FileFormatError

LARGEST_NUMBER = 2**20  # in any config: widths, vocabularies, time steps, ...
LARGEST_CONFIG = 2**24  # bytes
SLACK = 2**16  # weights that a network may have beyond its file, such as counted positions


def read_config(path: Path) -> dict[str, Any]:
    """Return the config at `path`, whose whole numbers are all of a believable size."""
    if path.stat().st_size > LARGEST_CONFIG:
        raise FileFormatError(f"{path} is larger than any config; download the folder again")
    config = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise FileFormatError(f"{path} holds no settings; download the folder again")
    for key, number in _numbers(config):
        if abs(number) > LARGEST_NUMBER:
            raise FileFormatError(
                f"{path} asks for {key} = {number:.3g}, expected at most {LARGEST_NUMBER}; "
                "download the folder again"
            )
    return config


def check_sizes(folder: Path, kind: Any) -> None:
    """Raise unless the config in `folder` describes a network that the weights beside it can fill.

    `kind` is a network class of diffusers or transformers.
    """
    path = folder / "config.json"
    config = read_config(path)
    tensors, held = _weights(folder)
    layers = [number for key, number in _numbers(config) if "layers" in key]
    longest = max((len(v) for v in config.values() if isinstance(v, list)), default=0)
    if max([longest, *layers]) > tensors:
        raise FileFormatError(
            f"{path} asks for {max([longest, *layers])} layers, but the weights beside it hold "
            f"{tensors} tensors; download the folder again"
        )
    needed = sum(value.numel() for value in _without_memory(kind, folder, config).parameters())
    if needed > held + SLACK:
        raise FileFormatError(
            f"{path} describes a network of {needed} weights, but the file beside it holds {held}; "
            "download the folder again"
        )


def _without_memory(kind: Any, folder: Path, config: dict[str, Any]) -> nn.Module:
    with torch.device("meta"):
        if hasattr(kind, "from_config"):  # diffusers
            return kind.from_config(config)
        return kind(kind.config_class.from_pretrained(folder, local_files_only=True))


def _weights(folder: Path) -> tuple[int, int]:
    """Return how many tensors and numbers the safetensors files of a folder hold."""
    tensors, numbers = 0, 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt", device="cpu") as file:
            shapes = [file.get_slice(key).get_shape() for key in file.keys()]
        tensors, numbers = tensors + len(shapes), numbers + sum(prod(s) for s in shapes)
    return tensors, numbers


def _numbers(value: Any, key: str = "") -> Iterator[tuple[str, int | float]]:
    """Yield all numbers inside, with the name of the setting they belong to."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _numbers(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(inner, key)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield key, value
