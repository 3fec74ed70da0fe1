"""The cells of the matrix on disk: what a method made of one style and one head, and its scores.

A cell lies under the hash of everything that decides it, so that a run goes on where it was
stopped, and a changed setting, model or protocol measures anew what it changes and no more. What
was fitted is kept apart from what was measured of it, under the hash of the first part alone: other
metrics cost no training. Read `fit_key`, `cell_key` and `CellStore`.

    OUT/cells/<hash>.json    scores, times and the inputs that the hash is of
    OUT/cells/<hash>.png     the picture of the evaluation
    OUT/cells/<hash>-views.png
    OUT/fits/<hash>.safetensors
    OUT/edits/               edited views, shared by all cells that edit alike
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import FileFormatError
from ..files.bundle import write_atomically
from ..files.claims import claimed
from ..files.edit_cache import VERSION as EDIT_VERSION
from ..files.finetune_cache import NEUTRAL
from ..files.finetune_cache import VERSION as FINETUNE_VERSION
from ..pipeline import PortraitSettings
from .methods import Method

FIT_VERSION = 1  # raise it whenever a method makes another portrait of the same inputs
SHOWN = ("turntable", "mesh", "mix_steps", "mix_frames")  # settings of what is made of a portrait
LATER = {
    "reedit": 0,
    "front": (),
}  # settings that came later, with the value that does what was done before
CELL_VERSION = 1  # raise it whenever a cell says something else of the same portrait


@dataclass(frozen=True)
class Pair:
    """A style and a head that every method is tried on."""

    style: str  # its name
    prompt: str
    seed: int  # of the head

    @property
    def name(self) -> str:
        """Return what tables and records call it."""
        return f"{self.style}/{self.seed}"


def pairs_of(styles: Sequence[tuple[str, str]], seeds: Sequence[int]) -> list[Pair]:
    """Return all pairs of styles (name, prompt) and heads, each new head and style soon.

    A matrix that is stopped early has seen as many styles and heads as it could: the first round
    gives every style one head, the heads in turn, the next round the next head.
    """
    rounds = range(len(seeds))
    return [
        Pair(name, prompt, seeds[(index + turn) % len(seeds)])
        for turn in rounds
        for index, (name, prompt) in enumerate(styles)
    ]


def fit_inputs(
    method: Method,
    pair: Pair,
    models: Mapping[str, str],  # the hash of every network that the method uses
    rival: Mapping[str, Any] | None = None,  # a rival's own settings
) -> dict[str, Any]:
    """Return everything that decides what a method makes of a pair."""
    return {
        "versions": {"fit": FIT_VERSION, "edit": EDIT_VERSION, "finetune": FINETUNE_VERSION},
        "runner": method.runner,
        "i2t": method.i2t,
        "rival": None if rival is None else dict(rival),
        "settings": _deciding(method.settings(pair.prompt, pair.seed).resolved()),
        "models": dict(models),
    }


def _deciding(settings: PortraitSettings) -> dict[str, Any]:
    """Return the settings that decide a portrait, as plain values.

    What is only shown is left out, and what came later where it does what was done before.
    """
    made = {
        name: value
        for name, value in asdict(settings).items()
        if name not in SHOWN and LATER.get(name, ...) != value
    }
    tune = {
        name: value
        for name, value in made["tune"].items()
        if name != "preview_every" and NEUTRAL.get(name, ...) != value
    }
    return {**made, "tune": tune}


def cell_inputs(
    fit: Mapping[str, Any],  # of `fit_inputs`
    protocol: Mapping[str, Any],  # settings, networks and truth of the evaluation
) -> dict[str, Any]:
    """Return everything that decides a cell."""
    return {"version": CELL_VERSION, "fit": dict(fit), "protocol": dict(protocol)}


def key_of(inputs: Mapping[str, Any]) -> str:
    """Return the hash that inputs are kept under."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True)
class CellStore:
    """A folder of cells. Several processes may work on one, pair by pair."""

    root: Path

    def cell(self, key: str) -> Path:
        """Return the file of a cell."""
        return self.root / "cells" / f"{key}.json"

    def picture(self, key: str) -> Path:
        """Return the file of a cell's picture."""
        return self.root / "cells" / f"{key}.png"

    def strip(self, key: str) -> Path:
        """Return the file of a cell's views, see `strips.strip`."""
        return self.root / "cells" / f"{key}-views.png"

    def fit(self, key: str) -> Path:
        """Return the file of what was fitted."""
        return self.root / "fits" / f"{key}.safetensors"

    @property
    def edits(self) -> Path:
        """Return the folder of edited views."""
        return self.root / "edits"

    def load(self, key: str) -> dict[str, Any] | None:
        """Return a cell, None where it was never finished or cannot be read."""
        try:
            cell = json.loads(self.cell(key).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return cell if isinstance(cell, dict) and isinstance(cell.get("scores"), dict) else None

    def save(self, key: str, cell: Mapping[str, Any]) -> None:
        """Keep a cell; raises WriteError, or FileFormatError for values that JSON cannot hold."""
        try:
            text = json.dumps(dict(cell), indent=1, allow_nan=False)
        except ValueError as error:
            raise FileFormatError(
                f"a cell must hold finite numbers and plain text: {error}"
            ) from None
        with write_atomically(self.cell(key)) as part:
            part.write_text(text + "\n", encoding="utf-8")

    @contextmanager
    def claimed(self, pair: Pair) -> Iterator[bool]:
        """Yield whether this process may work on a pair; only one may at a time."""
        name = hashlib.sha256(pair.name.encode()).hexdigest()[:16]
        with claimed(self.root / "locks" / f"{name}.lock") as mine:
            yield mine
