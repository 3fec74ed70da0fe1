"""3DGAN-Inv: one picture becomes a head by searching w, then tuning the generator to it.

Written from the description of "3D GAN Inversion with Pose Optimization" (WACV 2023), with no code
of it. Two stages: 400 steps of `latent.find_latent` on one w for all layers; then up to 400 steps
on the whole generator, lowering squared difference and perceptual distance of the picture and of
the raw picture, and the variation of the depth, until the two perceptual distances together fall to
0.06, which is looked at before a step.

What is otherwise than published:
- The pose is known: the camera is that of the reference. That is a handicap in this rival's favour.
  The 50 steps in which only the pose would be learned are not made, the schedule runs over the
  rest. The warp of the frontal picture to the pose is left out: published, w is held still there,
  so that with a known pose it can only move depths.
- w starts from the mean head; there is no encoder that predicts an offset.
- One perceptual distance, that of the method (VGG-LPIPS where its weights are, else the embedded
  features), serves for VGG and AlexNet; `stop` was chosen for AlexNet's.
- The weight of the depth's variation is not known; 1 here.
- Noise maps: `LatentSettings.noise`. Where the generator makes heads with other noise than its own,
  as official ones do, maps of the search's own are learned and thrown away, and tuning draws fresh
  noise in every step. The clay generator knows its own maps alone and keeps them. A portrait is
  always made with the generator's own.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from .. import seeds
from ..checks import check_numbers
from ..errors import InputError
from ..geometry.cameras import front_camera
from ..method.render import RenderSettings
from ..progress import Portion, Progress, enter_phase, no_progress
from ..training.losses import Perceptual, distance_name
from ..types import CameraBatch
from .latent import Latent, LatentSettings, find_latent
from .protocol import BaselineModels, Fitted, checked_reference, fitted_portrait, timed
from .tuning import TunedGenerator
from .view import View, depth_variation, likeness, shrunk

NAME = "3DGAN-Inv"
LITE_RENDER = RenderSettings(depth_samples=12, importance_samples=12)


@dataclass(frozen=True)
class TuneSettings:
    """The tuning of the generator; the defaults are the published ones."""

    steps: int = 400  # at most
    learning_rate: float = 3e-4
    stop: float = 0.06  # of the perceptual distances of picture and raw picture together
    lambda_pixel: float = 1.0
    lambda_perceptual: float = 1.0
    lambda_raw: float = 1.0  # of both for the raw picture, times the two above
    lambda_depth: float = 1.0

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.steps < 0:
            raise InputError(f"steps cannot be negative, got {self.steps}")
        if not 0 < self.learning_rate < 1:
            raise InputError(f"learning_rate must lie between 0 and 1, got {self.learning_rate}")
        weights = (self.lambda_pixel, self.lambda_perceptual, self.lambda_raw, self.lambda_depth)
        if min(*weights, self.stop) < 0:
            raise InputError("stop and the weights of the losses cannot be negative")


@dataclass(frozen=True)
class GanInversionSettings:
    """Both stages; the defaults are the published ones."""

    latent: LatentSettings = field(default_factory=LatentSettings)
    tune: TuneSettings = field(default_factory=TuneSettings)
    render: RenderSettings = field(default_factory=RenderSettings)  # of every step
    seed: int = 0
    preview_every: int = 10  # steps; 0 for no preview

    def __post_init__(self) -> None:
        check_numbers(self)
        seeds.check_seed(self.seed)
        if self.preview_every < 0:
            raise InputError(f"preview_every cannot be negative, got {self.preview_every}")

    @classmethod
    def lite(cls, **given: Any) -> GanInversionSettings:
        """Return what two CPU cores do to the clay generator in about a minute and a half.

        A quarter of the steps with half the samples per ray; `given` replaces some settings.
        """
        own: dict[str, Any] = {
            "latent": LatentSettings(steps=100, idle_steps=0, samples=600),
            "tune": TuneSettings(steps=100),
            "render": LITE_RENDER,
        }
        return cls(**{**own, **given})


def fit(
    reference: Tensor,  # [3,H,H] in [0,1], seen by the front camera
    prompt: str,  # kept in the record, nothing else
    models: BaselineModels,
    settings: GanInversionSettings | None = None,
    progress: Progress = no_progress,
    *,
    camera: CameraBatch | None = None,  # one, if it is not the front camera
) -> Fitted:
    """Return the head that looks like the reference.

    Raises ShapeError for a reference that is not one square picture in [0,1].
    """
    settings = settings or GanInversionSettings()
    picture = checked_reference(reference, models.eg3d)
    with torch.inference_mode(False), torch.enable_grad():
        seconds: dict[str, float] = {}
        searching = Portion(progress, 0.0, 0.5)
        view, found = search(picture, camera, models, settings, seconds, searching)
        with timed(seconds, "tune the generator"):
            tuned = _tuned(found, view, models, settings, Portion(progress, 0.5, 1.0))
        portrait = tuned.portrait(record(NAME, prompt, models, settings))
    return fitted_portrait(
        portrait,
        reference=picture[0].detach(),
        losses=named_losses({"w": found.losses, "tune": tuned.losses}),
        seconds=seconds,
        notes=notes_of(models, found),
    )


class Searching(Protocol):
    """What the settings of both inversions have for their first stage."""

    @property
    def latent(self) -> LatentSettings: ...
    @property
    def render(self) -> RenderSettings: ...
    @property
    def seed(self) -> int: ...
    @property
    def preview_every(self) -> int: ...


def search(
    picture: Tensor,  # [1,3,S,S], of `checked_reference`
    camera: CameraBatch | None,
    models: BaselineModels,
    settings: Searching,
    seconds: dict[str, float],  # takes the time
    progress: Progress = no_progress,
) -> tuple[View, Latent]:
    """Return the reference as a view, and the w that looks like it: how both inversions begin."""
    view = view_of(picture, camera, models, settings.render, settings.seed)
    with timed(seconds, "search w"):
        found = find_latent(
            models.eg3d,
            view,
            models.perceptual,
            settings.latent,
            seed=settings.seed,
            progress=progress,
            preview_every=settings.preview_every,
        )
    return view, found


def _tuned(
    found: Latent,
    view: View,
    models: BaselineModels,
    settings: GanInversionSettings,
    progress: Progress,
) -> TunedGenerator:
    """Return the generator tuned to the view."""
    wanted = settings.tune
    tuned = TunedGenerator(
        models.eg3d,
        found.ws,
        learning_rate=wanted.learning_rate,
        noise=found.noise,
        generator=seeds.step_generator(settings.seed, 5),
    )
    for step in range(wanted.steps):
        enter_phase(progress, "tuning the generator, step", step, wanted.steps)
        out = tuned.look(view)
        pixel, perceptual = likeness(out.image, view.picture, models.perceptual)
        raw = shrunk(view.picture, out.raw.shape[-1])
        raw_pixel, raw_perceptual = likeness(out.raw, raw, models.perceptual)
        if float((perceptual + raw_perceptual).detach()) <= wanted.stop:
            break
        tuned.lower(
            {
                "pixel": wanted.lambda_pixel * (pixel + wanted.lambda_raw * raw_pixel),
                "perceptual": wanted.lambda_perceptual
                * (perceptual + wanted.lambda_raw * raw_perceptual),
                "depth": wanted.lambda_depth * depth_variation(out.depth),
            }
        )
        show = settings.preview_every and (step + 1) % settings.preview_every == 0
        seen = out.image[0].detach().clamp(0, 1).cpu() if show else None
        progress(step + 1, wanted.steps, seen)
    progress(1, 1)
    return tuned


def view_of(
    picture: Tensor,  # [1,3,S,S]
    camera: CameraBatch | None,
    models: BaselineModels,
    render: RenderSettings,
    seed: int,
) -> View:
    """Return the reference and its camera, the front camera unless another is given."""
    if camera is None:
        camera = front_camera(models.eg3d.config.rig())
    if len(camera) != 1:
        raise InputError(f"a picture has one camera, got {len(camera)}")
    return View(picture, camera.clone().to(picture.device), render, seeds.step_generator(seed, 4))


def record(name: str, prompt: str, models: BaselineModels, settings: Any) -> dict[str, Any]:
    """Return what a portrait remembers of how it was made."""
    config, perceptual = models.eg3d.config, models.perceptual
    made: dict[str, Any] = {
        "inversion": name,
        "settings": asdict(settings),
        "perceptual": distance_name(perceptual),
        "eg3d": config.name,
        "licence": config.licence,
    }
    # a head with a prompt counts as restyled
    return {**made, "prompt": prompt} if prompt else made


def named_losses(stages: dict[str, dict[str, list[float]]]) -> dict[str, list[float]]:
    """Return all losses under names such as "tune pixel"."""
    return {
        f"{stage} {name}": values
        for stage, losses in stages.items()
        for name, values in losses.items()
    }


def notes_of(models: BaselineModels, found: Latent) -> tuple[str, ...]:
    """Return what a reader of the numbers must know of a run."""
    own = found.noise == "const"
    perceptual: Perceptual = models.perceptual
    return (
        "the pose is known",
        "the search starts from the mean head, without an encoder",
        f"perceptual distance: {distance_name(perceptual)}",
        "noise: the generator's own maps" if own else "noise: learned, then random, as published",
    )
