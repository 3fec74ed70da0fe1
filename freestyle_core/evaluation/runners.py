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

from ..baselines.generator_tuning import tune_generator
from ..baselines.protocol import BaselineModels
from ..errors import InputError
from ..files.bundle import weights_hash
from ..method.fewshot import few_shot_set
from ..method.finetune_settings import NEED_I2T
from ..method.render import render_views
from ..method.sample import sample_portrait
from ..models.i2t import I2T, fresh_i2t
from ..models.text_to_image import TextToImage
from ..pipeline import Models, style_views
from ..progress import Portion, Progress, Stages, no_progress
from ..types import FewShotSet, Portrait
from .cells import Pair
from .edits import SharedEdits
from .fits import Cost, Fit
from .methods import DREAMFUSION, GENERATOR, STYLE, I2TKind, Method
from .rivals import RIVALS, generator_settings, rival_settings

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
    # DreamFusion's teacher and the hash of its weights; None: the editor without its image
    text_to_image: tuple[TextToImage, str] | None = None
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
        found = {name: x for name, x in self.models.hashes.items() if name != "i2t"}
        if method.runner == DREAMFUSION and self.text_to_image is not None:
            found["text_to_image"] = self.text_to_image[1]
        return found

    def rival_models(self) -> BaselineModels:
        """Return the same networks as rivals take them."""
        models = self.models
        teacher = None if self.text_to_image is None else self.text_to_image[0]
        return BaselineModels(models.eg3d, models.perceptual, models.editor, teacher)

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


def reference_set(shop: Workshop, method: Method, pair: Pair) -> tuple[Portrait, FewShotSet, Cost]:
    """Return the head, its edited views as the full method has them, and what they took."""
    settings, models = method.settings(pair.prompt, pair.seed).resolved(), shop.models
    clock, edits = Clock(no_progress), SharedEdits(shop.edits)
    cameras = settings.cameras(models.eg3d.config.rig())
    with clock.stage("render the views"):
        head = sample_portrait(models.eg3d, pair.seed, psi=settings.psi)
        original = render_views(head, cameras, settings=settings.render).image
    with clock.stage("edit"):
        edited = edits.views(models.editor, original, pair.prompt, settings=settings.edit)
    few_shot = few_shot_set(head, edited, cameras, pair.prompt)
    return head, few_shot, clock.cost().plus(edits.cost)


def run_generator(shop: Workshop, method: Method, pair: Pair, progress: Progress) -> Fit:
    """Train the whole generator on the edited views, with the method's training settings."""
    head, edited, cost = reference_set(shop, method, pair)
    settings, clock = generator_settings(method, pair.prompt, pair.seed), Clock(progress)
    with clock.stage("fine-tune") as part:
        made = tune_generator(head, edited, shop.rival_models(), settings, part)
    return Fit(made.portrait, edited, clock.cost().plus(cost), made.notes)


def run_rival(shop: Workshop, method: Method, pair: Pair, progress: Progress) -> Fit:
    """Let a rival make a head of the edited front view, or of the words alone.

    The fit is judged by the views that the full method learns from, of which a rival sees one.
    """
    _, edited, cost = reference_set(shop, method, pair)
    rival, clock = RIVALS[method.runner], Clock(progress)
    with clock.stage("fit") as part:
        made = rival.fit(
            edited.images[edited.front],
            pair.prompt,
            shop.rival_models(),
            rival_settings(method, pair.seed),
            part,
        )
    share = 1 / len(edited.images) if rival.follows_picture else 0.0
    portrait = getattr(made, "portrait", None)
    result = made if portrait is None else portrait
    spent = clock.cost().plus(cost.scaled(share))
    return Fit(result, edited, spent, tuple(getattr(made, "notes", ())))


RUNNERS: dict[str, Runner] = {
    STYLE: run_style,
    GENERATOR: run_generator,
    **{name: run_rival for name in RIVALS},
}
