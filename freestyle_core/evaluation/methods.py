"""What the matrix compares: the paper's method, its ablations, ours, its rivals, and numbers.

A `Method` is nothing but public settings: a preset, what of the edit's and the training's settings
is otherwise, which I2T, or which rival. The long matrix has the paper's numbers (`presets.PAPER`);
the short one does less of everything, so that it can be run again whenever models change. Read
`METHODS` and `methods`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ..errors import InputError
from ..pipeline import PortraitSettings
from ..presets import BALANCED, FAST, PAPER, Preset

PSI = 1.0  # the truth belongs to a head as it was drawn, not to one pulled towards the average
# a quarter of the views, two ninths of the steps at half the samples, the editor's own steps
SHORT = replace(PAPER, views=5, steps=None, iterations=100, sample_share=0.5)
DISTILLED_PAIRS = 1  # of DreamFusion in the short matrix: 2,000 steps are 13 minutes of a core
STYLE = "style"  # the runner of this project's own method
GENERATOR = "generator"  # the runner that trains a whole generator
DREAMFUSION = "dreamfusion"  # the rival that follows no picture
RIVALS = ("3dgan-inv", "hfgi3d", DREAMFUSION)

I2TKind = Literal["own", "fresh", "flat"]  # the one of the models, an untrained one, one of k = 1


@dataclass(frozen=True)
class Method:
    """One row of the tables."""

    name: str  # on the command line
    label: str  # in tables
    part: str  # of the table: paper, ablation, ours, rival, or the number that is varied
    preset: Preset = PAPER
    edit: Mapping[str, Any] = field(default_factory=dict)  # settings of the edit, by name
    tune: Mapping[str, Any] = field(default_factory=dict)  # of the training
    i2t: I2TKind = "own"
    runner: str = STYLE
    lite: bool = False  # a rival's settings for few cores in place of the published ones
    pairs: int | None = None  # only so many, the first ones, where one takes too long; None: all

    def settings(self, prompt: str, seed: int) -> PortraitSettings:
        """Return the settings of a portrait as `style_views` takes them."""
        made = self.preset.settings(prompt, seed=seed, psi=PSI)
        edit = replace(made.edit, **self.edit)
        return replace(made, edit=edit, tune=replace(made.tune, preview_every=0, **self.tune))


def _ablations(base: Preset) -> Iterable[Method]:
    """Yield the paper's method and what section 4.4 takes out of it, one at a time."""

    def of(name: str, label: str, part: str = "ablation", **changes: Any) -> Method:
        return Method(name, label, part, **{"preset": base, **changes})

    yield of("full", "full method", "paper")
    yield of("no-sdedit", "w/o SDEdit start (tau 1)", edit={"tau": 1.0})
    yield of("no-prompt", "w/o enhanced prompt", edit={"decorative": "", "negative": ""})
    yield of(
        "no-optimisation",
        "w/o both (Fig. 8a)",
        edit={"tau": 1.0, "decorative": "", "negative": ""},
    )
    yield of("no-i2t", "w/o I2T", preset=replace(base, train="modulation"))
    yield of("no-pretraining", "w/o I2T pre-training", i2t="fresh")
    yield of("no-spatial", "w/o w_s spatial dimension", i2t="flat")
    yield of("no-density", "w/o density regularisation", tune={"lambda_dr": 0.0})
    yield of("generator", "whole generator fine-tuned", runner=GENERATOR)


def _ours(base: Preset) -> Iterable[Method]:
    """Yield what this project does beside the paper."""
    yield Method("planes", "planes learnt directly (balanced)", "ours", BALANCED)
    yield Method("fast", "planes learnt directly (fast)", "ours", FAST)
    yield Method("both", "I2T and planes", "ours", replace(base, train="both"))


def _rivals(base: Preset, lite: bool) -> Iterable[Method]:
    for name, label in zip(RIVALS, ("3DGAN-Inv", "HFGI3D", "DreamFusion"), strict=True):
        pairs = DISTILLED_PAIRS if lite and name == DREAMFUSION else None
        yield Method(name, label, "rival", base, runner=name, lite=lite, pairs=pairs)


def _numbers(base: Preset) -> Iterable[Method]:
    """Yield the method with one number changed at a time."""
    for views in (3, 5, 7, 10):
        label = f"{views} x {views} + 1 views"
        yield Method(f"views-{views}", label, "views", replace(base, views=views))
    for tau in (0.5, 0.7, 0.8):
        yield Method(f"tau-{tau:g}", f"tau {tau:g}", "tau", base, edit={"tau": tau})
    for share in (0.25, 0.5, 2):
        steps = round(base.iterations * share)
        made = replace(base, iterations=steps)
        yield Method(f"steps-{steps}", f"{steps} training steps", "steps", made)
    for batch in (2, 4):
        made = replace(base, batch_size=batch, iterations=base.iterations // batch)
        label = f"batch {batch}, as many views in all"
        yield Method(f"batch-{batch}", label, "batch", made)


# the short matrix, in the order in which it is run
SHORT_NAMES = (
    "full",
    "no-pretraining",
    "no-i2t",
    "no-spatial",
    "planes",
    "hfgi3d",
    "3dgan-inv",
    "no-sdedit",
    "no-prompt",
    "no-density",
    "fast",
    "both",
    "generator",
    "dreamfusion",
    "views-3",
)


def methods(short: bool, names: Iterable[str] | None = None) -> list[Method]:
    """Return the methods of a matrix, those of `names` in the order of the tables.

    Raises InputError for a name that the matrix does not have.
    """
    base = SHORT if short else PAPER
    every = [*_ablations(base), *_ours(base), *_rivals(base, short), *_numbers(base)]
    known = {method.name: method for method in every}
    chosen = list(SHORT_NAMES if short else known) if names is None else list(names)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise InputError(f"there is no method {unknown[0]!r}; choose from {', '.join(known)}")
    if len(set(chosen)) < len(chosen):
        raise InputError(f"each method once, got {', '.join(chosen)}")
    return [known[name] for name in chosen]
