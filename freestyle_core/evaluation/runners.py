"""How each method makes its portrait: `RUNNERS` has a function for every kind of method.

All start from the same head and, where they follow a picture, from the same edited views, which are
kept on disk and shared. Read `Workshop`, then `run_style`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files.bundle import weights_hash
from ..method.finetune_settings import NEED_I2T
from ..models.i2t import I2T, fresh_i2t
from ..pipeline import Models, style_views
from ..progress import Portion, Progress, Stages
from .cells import Pair
from .edits import SharedEdits
from .fits import Cost, Fit
from .methods import STYLE, I2TKind, Method

# (start, end) of each stage in the progress of a fit
SPANS = {"render the views": (0.0, 0.03), "edit": (0.03, 0.3), "fine-tune": (0.3, 1.0)}


@dataclass(frozen=True)
class Workshop:
    """The networks of a matrix, and the folder where edited views are kept."""

    models: Models
    edits: Path
    flat: tuple[I2T, str] | None = None  # an I2T with k = 1, and the hash of its weights
    clip: Any = None  # `models.clip.Clip`
    dino: Any = None
    _fresh: dict[str, tuple[I2T, str]] = field(default_factory=dict)

    def missing(self, method: Method) -> str | None:
        """Return what a method needs and nobody gave, None where it can run."""
        if method.runner not in RUNNERS:
            return f"{method.runner}, which this version does not have"
        if not _trains_i2t(method):
            return None
        if method.i2t == "flat" and self.flat is None:
            return (
                "an I2T whose code has no spatial dimension; give it with --i2t-flat, or make it "
                'with "python -m freestyle_core.clay train --only i2t_flat"'
            )
        if method.i2t == "own" and self.models.i2t is None:
            return "an I2T network; give it with --i2t"
        return None

    def fitting(self, kind: I2TKind) -> Models:
        """Return the models with the I2T that a method asks for."""
        if kind == "own":
            return self.models
        i2t, own_hash = self._fresh_one() if kind == "fresh" else self._flat_one()
        return replace(self.models, i2t=i2t, hashes={**self.models.hashes, "i2t": own_hash})

    def hashes(self, method: Method) -> dict[str, str]:
        """Return the hashes of the networks that a method uses."""
        if _trains_i2t(method):
            return dict(self.fitting(method.i2t).hashes)
        return {name: x for name, x in self.models.hashes.items() if name != "i2t"}

    def _flat_one(self) -> tuple[I2T, str]:
        if self.flat is None:
            raise InputError("there is no I2T with k = 1; give it with --i2t-flat")
        return self.flat

    def _fresh_one(self) -> tuple[I2T, str]:
        if "i2t" not in self._fresh:
            made = fresh_i2t(self.models.eg3d.config)
            own_hash = weights_hash(made.state_dict())
            self._fresh["i2t"] = made.to(next(self.models.eg3d.parameters()).device), own_hash
        return self._fresh["i2t"]


Runner = Callable[[Workshop, Method, Pair, Progress], Fit]


def run_style(shop: Workshop, method: Method, pair: Pair, progress: Progress) -> Fit:
    """Run this project's own method: `style_views` with the method's settings."""
    clock, edits = Clock(progress), SharedEdits(shop.edits)
    made = style_views(
        shop.fitting(method.i2t),
        method.settings(pair.prompt, pair.seed),
        stages=clock,
        edit=edits.views,
    )
    return Fit(made.portraits[0], made.sets[0], clock.cost().plus(edits.cost))


class Clock(Stages):
    """Stages that also take processor seconds, each a stretch of one progress."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self.progress = progress
        self.processor: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        """Yield the stage's stretch of the progress."""
        known = next((key for key in SPANS if name.startswith(key)), None)
        start, end = SPANS[known] if known else (0.0, 1.0)
        kind, begun = known or name, (time.monotonic(), time.process_time())
        yield Portion(self.progress, start, end)
        self.times[kind] = time.monotonic() - begun[0]
        self.processor[kind] = time.process_time() - begun[1]

    def cost(self) -> Cost:
        """Return what the stages took."""
        return Cost(dict(self.times), dict(self.processor))


def _trains_i2t(method: Method) -> bool:
    return method.runner == STYLE and method.preset.train in NEED_I2T


RUNNERS: dict[str, Runner] = {STYLE: run_style}
