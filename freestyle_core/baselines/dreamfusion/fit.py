"""The distillation from beginning to end; see the package's docstring for what is published."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...errors import InputError
from ...geometry.cameras import front_camera
from ...models.config import EG3DConfig
from ...models.editor import Editor
from ...models.text_to_image import Suits, TextToImage
from ...progress import OnLoss, Progress, no_progress
from ...training.checkpoint import TrainingState
from ..protocol import BaselineModels, Fitted, timed
from .cameras import placed
from .march import CELLS, Occupancy
from .scene import DistilledHead
from .settings import FAITHFUL, LITE, DreamFusionSettings
from .steps import NORMAL_LATENTS, Distillation

FINAL_LOOKS = 8  # places looked at in each cell of the finished field


def fit(
    reference: Tensor | None,  # the front view; not looked at: the words alone decide
    prompt: str,
    models: BaselineModels,  # eg3d for its cameras and image size, text_to_image or editor
    settings: DreamFusionSettings = LITE,
    progress: Progress = no_progress,
    **kept: Any,  # as of `distil`: resume, on_checkpoint, checkpoint_every, on_loss
) -> Fitted:
    """Return a head distilled from the text-to-image model, on its device.

    Raises InputError where there is no teacher or the prompt is empty.
    """
    teacher, seconds = teacher_of(models), dict[str, float]()
    with timed(seconds, "distillation"):
        head = distil(prompt, teacher, models.eg3d.config, settings, progress, **kept)
    losses = {f"distillation {name}": values for name, values in head.losses.items()}
    return Fitted(head.render, losses=losses, seconds=seconds, notes=notes_of(teacher, settings))


def distil(
    prompt: str,
    teacher: TextToImage,
    config: EG3DConfig,  # of the generator whose cameras look at the head
    settings: DreamFusionSettings = LITE,
    progress: Progress = no_progress,
    *,
    on_loss: OnLoss | None = None,  # called before the `progress` of the same step
    resume: TrainingState | None = None,
    on_checkpoint: Callable[[TrainingState], None] | None = None,
    checkpoint_every: int = 0,  # steps; 0 for only when it is stopped
) -> DistilledHead:
    """Return the head that `fit` renders.

    `on_checkpoint` is also called when `progress` stops the run, so that it can go on from there.
    """
    rig = config.rig()
    with torch.inference_mode(False), torch.enable_grad():
        run = Distillation(prompt, teacher, rig, settings)
        if resume is not None:
            run.load(resume)
        progress(run.step, settings.iterations)
        while run.step < settings.iterations:
            run.one_step()
            if on_loss:
                on_loss({name: values[-1] for name, values in run.losses.items()})
            if on_checkpoint and checkpoint_every and run.step % checkpoint_every == 0:
                on_checkpoint(run.state())
            show = settings.preview_every and run.step % settings.preview_every == 0
            try:
                picture = _preview(run, rig, config.image_resolution) if show else None
                progress(run.step, settings.iterations, picture)
            except BaseException:
                if on_checkpoint:
                    on_checkpoint(run.state())
                raise
        return finished(run, rig, config.image_resolution)


def notes_of(teacher: TextToImage, settings: DreamFusionSettings) -> tuple[str, ...]:
    """Return in what a run differs from the published one, beside what always does."""
    suits, usual, notes = teacher.suits, Suits(), []
    if teacher.is_editor:
        notes.append("the teacher is an image editor whose image is left out")
    if settings.iterations < FAITHFUL.iterations:
        notes.append(f"{settings.iterations} steps of {FAITHFUL.iterations}")
    if settings.scale(suits) != usual.guidance:
        notes.append(f"guidance {settings.scale(suits):g} instead of {usual.guidance:g}")
    if settings.views is not None or suits.views is not None:
        notes.append("cameras only where the teacher has seen heads from")
    if suits.white:
        notes.append("always on white")
    if teacher.latent_channels != NORMAL_LATENTS:
        notes.append("no first fifth in latents: they have other than 4 channels")
    return tuple(notes)


def teacher_of(models: BaselineModels) -> TextToImage:
    """Return the text-to-image model, or the editor with its image left out where there is none."""
    if models.text_to_image is not None:
        return models.text_to_image
    if models.editor is None:
        raise InputError(
            "DreamFusion needs a text-to-image model, got none; load one with "
            "load_text_to_image, or give an editor, which is then used without an image"
        )
    if not isinstance(models.editor, Editor):
        raise InputError(
            "DreamFusion needs the networks of an editor, got one of the host program; load a "
            "text-to-image model with load_text_to_image"
        )
    return TextToImage.from_editor(models.editor)


def finished(run: Distillation, rig: Any, image_resolution: int) -> DistilledHead:
    """Return what a distillation has come to, as a head of its own."""
    field, occupancy = run.average, Occupancy().to(run.device)
    random = torch.Generator().manual_seed(0)
    for _ in range(FINAL_LOOKS):
        jitter = torch.rand(CELLS**3, 3, generator=random).to(run.device)
        occupancy.look(field, field.folded(), jitter)
    losses = {name: list(values) for name, values in run.losses.items()}
    place, samples = placed(rig), run.settings.samples
    return DistilledHead(field, occupancy, place, image_resolution, samples, losses, run.history())


@torch.no_grad()
def _preview(run: Distillation, rig: Any, image_resolution: int) -> Tensor:
    """Return the front view [3,H,W] as it is now."""
    head = finished(run, rig, image_resolution)
    return head.render(front_camera(rig)).image[0].cpu()
