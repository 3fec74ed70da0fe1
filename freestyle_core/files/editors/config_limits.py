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
from torch import Tensor, nn

from ...errors import FileFormatError

LARGEST_NUMBER = 2**20  # in any config: widths, vocabularies, time steps, ...
LARGEST_CONFIG = 2**24  # bytes
TRIED = 8  # latent positions along a side, in a trial
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
    check_layers(path, config, tensors)
    network = _without_memory(kind, folder, config)
    needed = sum(value.numel() for value in network.parameters())
    if needed > held + SLACK:
        raise FileFormatError(
            f"{path} describes a network of {needed} weights, but the file beside it holds {held}; "
            "download the folder again"
        )
    _try(path, network.eval())


def check_layers(
    path: Path,
    config: dict[str, Any],
    tensors: int,  # how many the weights beside the config hold
) -> None:
    """Raise if a config asks for more layers than there are tensors: building them takes hours."""
    layers = [number for key, number in _numbers(config) if "layers" in key]
    longest = max((len(v) for v in config.values() if isinstance(v, list)), default=0)
    if max([longest, *layers]) > tensors:
        raise FileFormatError(
            f"{path} asks for {max([longest, *layers])} layers, but the weights beside it hold "
            f"{tensors} tensors; download the folder again"
        )


@torch.no_grad()
def _try(path: Path, network: Any) -> None:
    """Raise unless the network runs, without memory or arithmetic, and gives the usual shapes."""
    config = network.config
    pair: tuple[Tensor, ...]
    expected: list[tuple[int, ...]]
    try:
        if hasattr(network, "decode"):
            pixels = TRIED * 2 ** (len(config.block_out_channels) - 1)
            latents = network.encode(_nothing(1, 3, pixels, pixels)).latent_dist.mode()
            pair = latents, network.decode(latents).sample
            expected = [(1, config.latent_channels, TRIED, TRIED), (1, 3, pixels, pixels)]
        elif hasattr(network, "conv_in"):
            noisy, words = (1, config.in_channels, TRIED, TRIED), (1, 4, config.cross_attention_dim)
            t = torch.zeros((), dtype=torch.int64, device="meta")
            pair = (network(_nothing(*noisy), t, encoder_hidden_states=_nothing(*words)).sample,)
            expected = [(1, config.out_channels, TRIED, TRIED)]
        else:
            ids = torch.zeros((1, 4), dtype=torch.int64, device="meta")
            pair, expected = (network(ids)[0],), [(1, 4, config.hidden_size)]
    except Exception as error:  # settings that contradict each other make the libraries raise any
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise FileFormatError(
            f"{path} describes a network that cannot run ({reason}); download the folder again"
        ) from error
    if [tuple(value.shape) for value in pair] != expected:
        raise FileFormatError(
            f"{path} describes a network that gives {[tuple(v.shape) for v in pair]}, expected "
            f"{expected}; download the folder again"
        )


def _nothing(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


def check_scheduler(path: Path, scheduler: Any) -> None:
    """Raise unless the scheduler with the settings at `path` can take steps."""
    try:
        scheduler = type(scheduler).from_config(scheduler.config)
        scheduler.set_timesteps(3)
        picture = torch.zeros(1, 1, 2, 2)
        noisy = scheduler.add_noise(picture, picture, scheduler.timesteps[:1])
        for t in scheduler.timesteps:
            noisy = scheduler.step(noisy, t, noisy).prev_sample
        runs = bool(torch.isfinite(noisy).all())
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise FileFormatError(
            f"{path} describes a sampler that cannot run ({reason}); download the folder again"
        ) from error
    if not runs:
        raise FileFormatError(
            f"{path} describes a sampler that gives NaN; download the folder again"
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
