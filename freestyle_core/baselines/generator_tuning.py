"""Whole-generator tuning: all weights of the EG3D learn the edited views, at the head's own w.

The ablation of what learns. Views, cameras, loss (eq. 5 to 7), order of the views and random
numbers are those of `method/finetune.py`; only the planes are made by the generator's backbone,
which learns together with decoder and super-resolution, where the method keeps both frozen.

The head's w has to be known (`Portrait.w`), as it is for one that was sampled or inverted.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import torch

from .. import seeds
from ..checks import check_numbers
from ..errors import InputError, MismatchError
from ..method.fewshot import check_few_shot
from ..method.finetune import FinetuneSettings
from ..method.finetune_steps import view_plan
from ..method.ray_samples import ray_spans, sample_spans
from ..method.render import image_of, ray_features
from ..models.eg3d import EG3D
from ..progress import Progress, enter_phase, no_progress
from ..training.losses import density_loss, distance_name
from ..training.targets import Targets
from ..types import FewShotSet, Portrait, Triplane
from .naive import step_draws
from .protocol import BaselineModels, Fitted, fitted_portrait, timed
from .tuning import TunedGenerator

NAME = "whole-generator tuning"


@dataclass(frozen=True)
class GeneratorTuningSettings:
    """How the generator is tuned: `tune` says all but the learning rate."""

    tune: FinetuneSettings = field(default_factory=FinetuneSettings)  # its `train` is not looked at
    learning_rate: float = (
        3e-4  # at first; falls as that of `tune` does. As both inversions have it
    )

    def __post_init__(self) -> None:
        check_numbers(self)
        if not 0 < self.learning_rate < 1:
            raise InputError(f"learning_rate must lie between 0 and 1, got {self.learning_rate}")


def tune_generator(
    portrait: Portrait,  # the head that was edited
    few_shot: FewShotSet,
    models: BaselineModels,
    settings: GeneratorTuningSettings | None = None,
    progress: Progress = no_progress,
) -> Fitted:
    """Return the head as a generator makes it that has learned the edited views.

    Raises MismatchError where the portrait is not one of `models.eg3d`, which is left as it is.
    """
    settings = settings or GeneratorTuningSettings()
    eg3d = models.eg3d
    seconds: dict[str, float] = {}
    _check(portrait, few_shot, eg3d)
    with torch.inference_mode(False), torch.enable_grad(), timed(seconds, "tune the generator"):
        tuned = TunedGenerator(eg3d, portrait.w, learning_rate=settings.learning_rate)
        _learn(tuned, few_shot, models, settings, progress)
    kept = {k: v for k, v in portrait.provenance.items() if k != "parent"}
    made = {
        "prompt": few_shot.prompt,
        "generator_tuning": asdict(settings),
        "perceptual": distance_name(models.perceptual),
    }
    return fitted_portrait(
        tuned.portrait({**kept, **made}),
        losses=tuned.losses,
        seconds=seconds,
        notes=("all weights of the generator learn, at the w of the head",),
    )


def _learn(
    tuned: TunedGenerator,
    few_shot: FewShotSet,
    models: BaselineModels,
    settings: GeneratorTuningSettings,
    progress: Progress,
) -> None:
    tune, config = settings.tune, tuned.eg3d.config
    device = tuned.ws.device
    images = few_shot.images.detach().clone().to(device).float()
    cameras = few_shot.cameras.clone().to(device)
    targets = Targets(images, models.perceptual)
    sizes = tune.sizes(config)
    spans = ray_spans(config, cameras, sizes.neural_resolution)
    random = seeds.generator(tune.seed)
    for step, chosen in enumerate(view_plan([len(cameras)], tune)):
        enter_phase(progress, "tuning the generator, step", step, tune.iterations)
        rows = torch.tensor([view for _, view in chosen], device=device)
        tuned.set_rate(settings.learning_rate * tune.rate(step) / tune.learning_rate)
        u_coarse, u_fine, pick, delta = step_draws(sizes, tune, random, device)
        renderer, planes = tuned.eg3d.renderer(), tuned.planes()
        sampled = sample_spans(config, spans.of(rows), sizes.depth_samples, u_coarse)
        features = ray_features(renderer, planes, sampled, sizes.importance_samples, u_fine)
        image = image_of(renderer, features, tuned.ws, sizes)
        points = sampled.points().gather(1, pick[..., None].expand(-1, -1, 3))
        triplane = Triplane(planes, config.box_size)
        tuned.lower(
            {
                "reconstruction": tune.lambda_rec * targets.loss(image, rows),
                "density": tune.lambda_dr * density_loss(renderer, triplane, points, delta),
            }
        )
        show = tune.preview_every and (step + 1) % tune.preview_every == 0
        seen = image[0].detach().clamp(0, 1).cpu() if show else None
        progress(step + 1, tune.iterations, seen)


def _check(portrait: Portrait, few_shot: FewShotSet, eg3d: EG3D) -> None:
    check_few_shot([few_shot], [portrait], eg3d.config.image_resolution)
    rows = (1, eg3d.config.num_ws, eg3d.config.w_dim)
    if tuple(portrait.w.shape) != rows or portrait.renderer.config != eg3d.config:
        raise MismatchError(
            f"the portrait is of {portrait.renderer.config.name} with w "
            f"{tuple(portrait.w.shape)}, but {eg3d.config.name} has w {rows}; tune the generator "
            "that the portrait was sampled from"
        )
