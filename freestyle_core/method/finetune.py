"""Fine-tuning (paper Alg. 2): planes learn the edited views of one or several portraits.

Each step takes a few views I_v, makes planes (in the paper by an I2T network, from the front view
I_f of their set), renders them through the frozen decoder and super-resolution, and lowers eq. 7.
What learns is a choice, see `sources.py`. Everything works on copies, so a cancel leaves all inputs
as they were. Read `finetune_portraits`, then `finetune_steps.Run.one_step`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..errors import InputError, MismatchError, ShapeError
from ..models.eg3d import EG3D
from ..models.i2t import I2T, check_i2t_fits
from ..progress import OnLoss, Progress, no_progress
from ..training.checkpoint import TrainingState
from ..training.losses import Perceptual
from ..training.pace import Pace
from ..types import FewShotSet, Portrait
from .fewshot import check_few_shot
from .finetune_settings import NEED_I2T, FinetuneSettings
from .finetune_steps import LOSSES, Run
from .flatten import flattened
from .mix import same_weights
from .sources import PlaneSource

__all__ = ["LOSSES", "FinetuneResult", "FinetuneSettings", "FinetuneState", "finetune_portraits"]

FinetuneState = TrainingState
SAME_HEAD = 0.01  # mean difference of planes, in their deviation: rounding, in half precision too


@dataclass(frozen=True)
class FinetuneResult:
    """The stylised portraits, in the order of the sets, and the losses of every step."""

    portraits: list[Portrait]  # all with one and the same network, if any
    losses: dict[str, list[float]]  # see LOSSES


def finetune_portraits(
    i2t: I2T | None,  # None where no network is trained
    parent: str,  # hash of the pre-trained weights of i2t, "" without one
    portraits: Sequence[Portrait],
    sets: Sequence[FewShotSet],  # one per portrait
    perceptual: Perceptual,
    *,
    eg3d: EG3D | None = None,  # the portraits' generator, which "modulation" needs
    source: PlaneSource | None = None,  # on their device; learns in place of `settings.train`
    settings: FinetuneSettings | None = None,
    progress: Progress = no_progress,
    on_loss: OnLoss | None = None,  # called before the `progress` of the same step
    resume: FinetuneState | None = None,
    on_checkpoint: Callable[[FinetuneState], None] | None = None,
    checkpoint_every: int = 0,  # steps; 0 for only when it is stopped
) -> FinetuneResult:
    """Return the portraits restyled as their few-shot sets show, by one training.

    `on_checkpoint` is also called when `progress` stops the run, so that it can go on from there.
    Under a time budget the steps that fit are made, and the learning rate falls at their end.
    On a GPU the losses of ten steps are read at once, so `on_loss` tells ten in a row. The previews
    turn: each shows the head from a little further round, several sets in turn.
    """
    settings = settings or FinetuneSettings()
    _check_fit(i2t, eg3d, portraits, sets, settings)
    portraits = [flattened(portrait) for portrait in portraits]
    # ComfyUI runs nodes in inference mode, whose tensors can never be trained
    with torch.inference_mode(False), torch.enable_grad():
        run = Run(i2t, parent, portraits, sets, perceptual, settings, eg3d, source)
        if resume is not None:
            run.load(resume)
        pace = (
            Pace(settings.iterations - run.step, settings.budget_s) if settings.budget_s else None
        )
        begun = run.step
        progress(run.step, settings.iterations)
        while run.step < run.total:
            told = len(run.losses["total"])
            run.one_step()
            if pace is not None:
                pace.stepped()
                run.total = begun + pace.total
            if on_loss:
                for index in range(told, len(run.losses["total"])):
                    on_loss({name: values[index] for name, values in run.losses.items()})
            if on_checkpoint and checkpoint_every and run.step % checkpoint_every == 0:
                on_checkpoint(run.state())
            show = settings.preview_every and run.step % settings.preview_every == 0
            picture = run.preview() if show else None
            try:
                progress(run.step, run.total, picture)
            except BaseException:
                if on_checkpoint:
                    on_checkpoint(run.state())
                raise
        stylised = run.portraits(portraits, sets)
    return FinetuneResult(stylised, {name: list(run.losses[name]) for name in LOSSES})


def _check_fit(
    i2t: I2T | None,
    eg3d: EG3D | None,
    portraits: Sequence[Portrait],
    sets: Sequence[FewShotSet],
    settings: FinetuneSettings,
) -> None:
    needs_i2t = settings.train in NEED_I2T
    if i2t is None and needs_i2t:
        raise InputError(
            f"training {settings.train!r} needs an I2T network, got none; load or pre-train "
            "one, or train 'planes'"
        )
    if not portraits:
        raise InputError("got no portraits; give at least one")
    check_few_shot(sets, portraits, portraits[0].renderer.config.image_resolution)
    for portrait in portraits:
        if portrait.w.shape[0] != 1:
            raise ShapeError(
                f"fine-tuning takes portraits one by one, got a batch of {portrait.w.shape[0]}"
            )
        if i2t is not None and needs_i2t:
            check_i2t_fits(i2t.config, portrait.renderer.config)
        if not same_weights(portrait.renderer, portraits[0].renderer):
            raise MismatchError(
                "the portraits come from different EG3D generators; make all with the same one"
            )
    if settings.train == "modulation":
        _check_generator(eg3d, portraits)


def _check_generator(eg3d: EG3D | None, portraits: Sequence[Portrait]) -> None:
    """Raise unless the portraits are heads as this generator makes them."""
    if eg3d is None:
        raise InputError(
            "training 'modulation' adds layers to the generator, got none; give the EG3D that the "
            "portraits come from, or train 'planes'"
        )
    for portrait in portraits:
        same = same_weights(portrait.renderer, eg3d.renderer())
        if not same or not _makes(eg3d, portrait):
            raise MismatchError(
                "modulation layers start from heads of their generator, but a portrait is not what "
                f"EG3D {eg3d.config.name} makes of its w; give its own generator and the head "
                "before it was restyled"
            )


@torch.no_grad()
def _makes(eg3d: EG3D, portrait: Portrait) -> bool:
    planes = portrait.triplane.planes
    parameter = next(eg3d.parameters())
    made = eg3d.planes(portrait.w.to(parameter)).to(planes)
    return float((made - planes).abs().mean()) <= SAME_HEAD * float(planes.std())
