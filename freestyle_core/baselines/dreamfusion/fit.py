"""The distillation from beginning to end; see the package's docstring for what is published."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...errors import InputError
from ...geometry.cameras import front_camera
from ...models.text_to_image import Suits, TextToImage
from ...progress import OnLoss, Progress, no_progress
from ...training.checkpoint import TrainingState
from .cameras import placed
from .march import CELLS, Occupancy
from .scene import DistilledHead
from .settings import LITE, DreamFusionSettings
from .steps import Distillation

FINAL_LOOKS = 8  # places looked at in each cell of the finished field


def fit(
    reference: Tensor | None,  # [3,H,W]; not looked at: the words alone decide
    prompt: str,
    models: Any,  # `BaselineModels`: eg3d for its cameras, text_to_image
    settings: DreamFusionSettings = LITE,
    progress: Progress = no_progress,
    *,
    on_loss: OnLoss | None = None,  # called before the `progress` of the same step
    resume: TrainingState | None = None,
    on_checkpoint: Callable[[TrainingState], None] | None = None,
    checkpoint_every: int = 0,  # steps; 0 for only when it is stopped
) -> DistilledHead:
    """Return a head distilled from `models.text_to_image`, on the teacher's device.

    `on_checkpoint` is also called when `progress` stops the run, so that it can go on from there.
    Raises InputError where there is no teacher or the prompt is empty.
    """
    teacher, config = teacher_of(models), models.eg3d.config
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


def teacher_of(models: Any) -> TextToImage:
    """Return the text-to-image model, or the editor with its image left out where there is none."""
    if models.text_to_image is not None:
        return models.text_to_image
    if models.editor is None:
        raise InputError(
            "DreamFusion needs a text-to-image model, got none; load one with "
            "load_text_to_image, or give an editor, which is then used without an image"
        )
    return TextToImage.from_editor(models.editor, Suits())


def finished(run: Distillation, rig: Any, image_resolution: int) -> DistilledHead:
    """Return what a distillation has come to, as a head of its own."""
    field, occupancy = run.average, Occupancy().to(run.device)
    random = torch.Generator().manual_seed(0)
    for _ in range(FINAL_LOOKS):
        jitter = torch.rand(CELLS**3, 3, generator=random).to(run.device)
        occupancy.look(field, field.folded(), jitter)
    losses = {name: list(values) for name, values in run.losses.items()}
    return DistilledHead(field, occupancy, placed(rig), image_resolution, losses, run.history())


@torch.no_grad()
def _preview(run: Distillation, rig: Any, image_resolution: int) -> Tensor:
    """Return the front view [3,H,W] as it is now."""
    head = finished(run, rig, image_resolution)
    return head.render(front_camera(rig)).image[0].cpu()
