"""Tensors and plain values in a file: what a training keeps between two starts, and its data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..errors import FileFormatError
from .bundle import write_atomically


def save_tensors(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values to `path`, never leaving a half-written file there."""
    with write_atomically(path) as part:
        torch.save(state, part)


def load_tensors(path: Path) -> dict[str, Any]:
    """Return what `save_tensors` wrote; nothing but tensors and plain values is loaded."""
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # a damaged file can make torch.load raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise FileFormatError(
            f"{path} cannot be read ({reason}); delete it to make it again"
        ) from error
    if not isinstance(state, dict):
        raise FileFormatError(
            f"{path} holds a {type(state).__name__}, expected a checkpoint; delete it"
        )
    return state


class CheckpointFile:
    """A `training.loop.Checkpoints` in one file, replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def load(self) -> dict[str, Any] | None:
        """Return what was saved last; None where nothing was."""
        return load_tensors(self.path) if self.path.exists() else None

    def save(self, state: dict[str, Any]) -> None:
        """Replace what was saved before."""
        save_tensors(self.path, state)
