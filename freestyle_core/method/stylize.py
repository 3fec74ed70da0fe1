"""Restyle the views of a head with an image editor that starts from the noised input (Sec. 3.1).

Notation: E(I) the latents of a view, n the Gaussian noise that all views share, tau the share of
the noise schedule that is applied to E(I) and then removed again. e(image, text) is what the U-Net
guesses with an image and a text given, or without one: three branches a step. With a reference
every view also attends to the front view, which is denoised beside it. Read `stylize_views` first.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import seeds
from ..errors import FreeStyleError, InputError, ShapeError, is_out_of_memory
from ..geometry.surface_noise import surface_noise
from ..models.editor import ImageEditor
from ..progress import Progress, enter_phase, no_progress
from ..types import Rendering
from .ddim import Schedule
from .stylize_settings import StylizeSettings

# of the full-size U-Net in single precision, per latent position of one branch: ComfyUI's estimate
# for the same network, 0.01 MiB per position and byte. Other editors need less.
BYTES_PER_POSITION = 41_943
CPU_POSITIONS = 1024  # latent positions edited together on a CPU
# the same where each batch also edits the front view, so that this is not a quarter of the work
CPU_POSITIONS_SHARED = 2048

_log = logging.getLogger(__name__)


def stylize_views(
    editor: ImageEditor,
    images: Tensor,  # [V,3,H,W], in [0,1], of one head, the front view first
    style: str,
    *,
    settings: StylizeSettings | None = None,
    progress: Progress = no_progress,
    noise: Tensor | None = None,  # [1,C,h,w] or [V,C,h,w]; drawn from the seed when None
    seen: Rendering | None = None,  # V, of the head in `images`: where noise is on its surface
) -> Tensor:
    """Return the restyled views [V,3,H,W] in [0,1], on the device and in the dtype of `images`.

    `progress` is called after every denoising step, and with each finished view as preview. When
    memory runs out, fewer views are edited together; the result stays the same.
    """
    asked = settings or StylizeSettings()
    settings = asked.suited(editor)
    check_images(images, editor.factor)
    most = editor.scheduler.config.num_train_timesteps
    if settings.count() > most:
        raise InputError(
            f"steps must be at most {most}, the length of the noise schedule, got "
            f"{settings.count()}"
        )
    for note in edit_notes(asked, editor):
        _log.warning("%s", note)
    prompt = settings.prompt(style)
    with torch.no_grad():
        text = editor.encode_text([prompt, settings.negative])
        if noise is None and settings.noise == "surface":
            noise = _noise_on(editor, images, settings.seed, seen)
        noise = _noise_for(editor, images, settings.seed, noise)
        noise = noise.expand(len(images), *noise.shape[1:])
        steps, size = _steps_to_run(settings), _views_at_once(editor, images, settings)
        shared = settings.shares_front(len(images))
        edited: list[Tensor] = []
        batches = 0
        while len(edited) < len(images):
            rows = [*range(len(edited), min(len(edited) + size, len(images)))]
            wanted = len(rows)
            if shared and edited:  # the first batch has the front view among its own
                rows.append(0)
            reference = rows.index(0) if shared else None
            total = batches + math.ceil((len(images) - len(edited)) / size)
            report = _Report(progress, batches, total, steps, len(edited), len(images))
            try:
                edited += _edit(
                    editor, images[rows], text, noise[rows], settings, report, wanted, reference
                )
                batches += 1
            except RuntimeError as error:
                if size == 1 or not is_out_of_memory(error):
                    raise
                size //= 2
    return torch.stack(edited)


def edit_notes(settings: StylizeSettings, editor: ImageEditor) -> list[str]:
    """Return a sentence for each setting that this editor cannot follow and passes over."""
    notes = []
    if settings.reuse_features > 1 and not editor.keeps_features:
        notes.append(
            f"reuse_features is {settings.reuse_features}, but this editor always runs its whole "
            "network; the setting is ignored"
        )
    if settings.reference == "front" and not editor.takes_reference:
        notes.append(
            "reference is front, but this editor edits every view by itself; the setting is ignored"
        )
    return notes


@dataclass(frozen=True)
class _Report:
    """Reports of one batch of views as reports of the whole; a batch also counts two steps for its
    VAE, one to encode and one to decode.
    """

    progress: Progress
    batch: int  # number of this one
    batches: int
    steps: int  # of a batch
    before: int  # views that were finished before
    views: int  # in all

    def encoded(self, count: int, size: int) -> None:
        enter_phase(self.progress, "encoding, view", self.before + count, self.views)
        self._tell(count / size)

    def stepped(self, step: float) -> None:
        count = self.batch * self.steps + int(step)
        enter_phase(self.progress, "restyling, step", count, self.batches * self.steps)
        self._tell(1 + step)

    def decoded(self, count: int, size: int, preview: Tensor | None) -> None:
        enter_phase(self.progress, "decoding, view", self.before + count, self.views)
        self._tell(1 + self.steps + count / size, preview)

    def _tell(self, done: float, preview: Tensor | None = None) -> None:
        whole = self.steps + 2
        self.progress(self.batch * whole + done, self.batches * whole, preview)


def _edit(
    editor: ImageEditor,
    images: Tensor,  # [N,3,H,W]
    text: Any,  # editor.encode_text([positive, negative])
    noise: Tensor,  # [N,C,h,w]
    settings: StylizeSettings,
    report: _Report,
    wanted: int,  # of the views; one behind them is there to be seen
    reference: int | None,  # the view that all see
) -> list[Tensor]:
    """Return one batch of restyled views, wanted x [3,H,W].

    The VAE takes one view at a time: per view it needs far more memory than the U-Net.
    """
    codes: list[Tensor] = []
    for image in images.split(1):
        report.encoded(len(codes), len(images))
        codes.append(editor.encode(image))
    condition = torch.cat(codes)
    with editor.working(condition):
        denoising = Denoising(editor, condition, text, noise, settings, reference)
        report.stepped(0)
        while not denoising.finished:
            denoising.step()
            report.stepped(denoising.done)
    edited: list[Tensor] = []
    report.decoded(0, wanted, None)
    for latents in denoising.latents[:wanted].split(1):
        view = editor.decode(latents)[0].to(images.device, images.dtype)
        if not bool(torch.isfinite(view).all()):
            raise FreeStyleError(
                "the editor made NaN of a view: its number format cannot hold what it computes, or "
                "its settings are damaged; load it in float32 or bfloat16, or take another editor"
            )
        edited.append(view)
        report.decoded(len(edited), wanted, edited[-1])
    return edited


def _views_at_once(editor: ImageEditor, images: Tensor, settings: StylizeSettings) -> int:
    """Return how many views are edited together: on a CPU few, which costs hardly any time there
    and lets a cancel be heard after each short step.
    """
    if editor.device.type != "cpu":
        return settings.batch_size
    height, width = (side // editor.factor for side in images.shape[2:])
    most = CPU_POSITIONS_SHARED if settings.reference == "front" else CPU_POSITIONS
    return max(1, min(settings.batch_size, most // (height * width)))


def bytes_per_view(editor: ImageEditor, images: Tensor) -> int:
    """Return about how much memory one more view in a batch takes, its three branches together."""
    height, width = (max(1, side // editor.factor) for side in images.shape[2:])
    return 3 * height * width * BYTES_PER_POSITION


class Denoising:
    """One batch of views on its way from n* (eq. 1) to the restyled latents (eq. 2).

    It is made and used while the editor is `working`. No step reads a number from the device.
    """

    def __init__(
        self,
        editor: ImageEditor,
        condition: Tensor,  # [N,C,h,w], E(I), unscaled
        text: Any,  # editor.encode_text([positive, negative])
        noise: Tensor,  # [N,C,h,w]
        settings: StylizeSettings,
        reference: int | None = None,  # the view that all see; only where the editor takes one
    ) -> None:
        self.settings = settings
        self.image_guidance, self.text_guidance = settings.scales(editor.guidance)
        self.schedule = Schedule(editor.scheduler, settings.count(), _steps_to_run(settings))
        keep = settings.reuse_features > 1 and editor.keeps_features
        times = self.schedule.timesteps
        if reference is None:
            self._predict = editor.predictor(condition, text, times, keep)
        else:
            self._predict = editor.predictor(condition, text, times, keep, reference)
        if settings.tau == 1:
            self.latents = self.schedule.from_noise(noise)
        else:
            self.latents = self.schedule.noised(condition * editor.latent_scale, noise)
        self.done = 0
        self._guided = 0  # steps with guidance so far
        self._pull: Tensor | None = None  # of the image: e(I, negative) - e(no image, negative)

    @property
    def finished(self) -> bool:
        """Whether no step is left."""
        return self.done == len(self.schedule)

    def step(self) -> None:
        """Remove the noise of one time step, with guidance by image and by text."""
        noisy = self.schedule.scaled(self.latents, self.done)
        start, end = self.settings.guidance_interval
        if start <= self.done / len(self.schedule) < end:
            guess = self._with_guidance(noisy)
        else:
            guess = self._guesses(noisy, 1)[0]
        self.latents = self.schedule.advanced(self.latents, guess, self.done)
        self.done += 1

    def _with_guidance(self, noisy: Tensor) -> Tensor:
        # e(0,0) + s_I (e(I,0) - e(0,0)) + s_T (e(I,t) - e(I,0)); what weighs nothing is left out
        if self.image_guidance == self.text_guidance == 1:
            return self._guesses(noisy, 1)[0]
        if self.image_guidance == 1:
            e_text, e_image = self._guesses(noisy, 2)
            return e_image + self.text_guidance * (e_text - e_image)
        if self._pull is None or self._guided % self.settings.reuse_unconditional == 0:
            e_text, e_image, e_none = self._guesses(noisy, 3)
            self._pull = e_image - e_none
        else:
            e_text, e_image = self._guesses(noisy, 2)
            e_none = e_image - self._pull
        self._guided += 1
        return e_none + self.image_guidance * self._pull + self.text_guidance * (e_text - e_image)

    def _guesses(self, noisy: Tensor, branches: int) -> tuple[Tensor, ...]:
        shallow = self.done % self.settings.reuse_features != 0
        return self._predict(noisy, self.done, branches, shallow)


def check_images(
    images: Tensor,  # [V,3,H,W]
    factor: int,  # image pixels per latent position
) -> None:
    """Raise unless these are finite images in [0,1] whose sides the VAE can divide."""
    if images.ndim != 4 or images.shape[1] != 3 or len(images) == 0:
        raise ShapeError(f"images must be [V,3,H,W] with V >= 1, got {tuple(images.shape)}")
    height, width = images.shape[2:]
    if height % factor or width % factor or not height or not width:
        raise ShapeError(
            f"images are {width}x{height} pixels but this editor needs sides that are multiples "
            f"of {factor}; resize them first"
        )
    if not torch.isfinite(images).all():
        raise ShapeError("images contain NaN or infinite values; look at where they were made")
    low, high = float(images.min()), float(images.max())
    if low < -0.01 or high > 1.01:
        raise ShapeError(f"images must be in [0,1], got values from {low:.3g} to {high:.3g}")


def _steps_to_run(settings: StylizeSettings) -> int:
    # the start is the scheduler step nearest tau * T: 18 of 20 steps run at tau 0.9
    return max(1, round(settings.tau * settings.count()))


def _noise_on(editor: ImageEditor, images: Tensor, seed: int, seen: Rendering | None) -> Tensor:
    """Return the noise [V,C,h,w] that sticks to the head in the pictures."""
    if seen is None or len(seen.cameras) != len(images):
        count = "none" if seen is None else f"one of {len(seen.cameras)} views"
        raise InputError(
            f"noise on the surface needs the rendering of the {len(images)} pictures, with its "
            f"depth, got {count}; render the head, or choose noise on the screen"
        )
    screen = _noise_for(editor, images, seed, None)
    return surface_noise(seen.depth, seen.alpha, seen.cameras, screen, seeds.folded(seed))


def _noise_for(editor: ImageEditor, images: Tensor, seed: int, noise: Tensor | None) -> Tensor:
    height, width = (side // editor.factor for side in images.shape[2:])
    shape = (1, editor.latent_channels, height, width)
    if noise is None:
        noise = torch.randn(shape, generator=seeds.generator(seed))
    if noise.shape[1:] != shape[1:] or len(noise) not in (1, len(images)):
        raise ShapeError(
            f"noise must be {list(shape)} or one such noise per view, got {list(noise.shape)}"
        )
    return noise.to(editor.device, torch.float32)
