"""The portrait that an aligned photograph shows: three ways, of which the measured best is `AUTO`.

- "i2t": the pre-trained I2T makes planes of it in one pass. It learnt from front views alone, so it
  takes the head for one that looks into the camera.
- "planes": from there the planes themselves learn the picture at its own camera, decoder and
  super-resolution frozen, so that the portrait stays one of its generator's.
- "invert": the generator is searched for the head and then tuned to it (`inversion.invert`); needs
  no I2T. docs/photo.md compares them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor

from ..errors import InputError
from ..files.networks import embedded, i2t_misfit, load_i2t
from ..geometry.cameras import front_camera
from ..method.fewshot import few_shot_set
from ..method.finetune import finetune_portraits
from ..method.finetune_settings import FinetuneSettings
from ..models.eg3d import EG3D
from ..models.i2t import I2T
from ..progress import Progress, no_progress
from ..training.losses import Perceptual
from ..types import CameraBatch, Portrait, Triplane
from .inversion import invert, invert_settings
from .protocol import checked_reference

Way = Literal["auto", "i2t", "planes", "invert"]
WAYS: tuple[Way, ...] = get_args(Way)
STEPS = 20  # of "planes", unless told otherwise


def portrait_of_photo(
    image: Tensor,  # [3,S,S] in [0,1], aligned
    camera: CameraBatch | None,  # one, of the photograph; None: the front camera
    *,
    eg3d: EG3D,
    i2t: I2T | None,
    perceptual: Perceptual,
    way: Way = "auto",
    steps: int = 0,  # of "planes", or at most so many of each stage of "invert"; 0: the usual
    seed: int = 0,
    progress: Progress = no_progress,
) -> Portrait:
    """Return the head that a photograph shows, as a portrait to render, restyle, mix and save."""
    if way not in WAYS:
        raise InputError(f"a photograph becomes a portrait by {', '.join(WAYS)}, got {way!r}")
    camera = camera or front_camera(eg3d.config.rig())
    if way == "auto":
        way = "invert" if i2t is None else "planes"
    if way == "invert":
        settings = invert_settings(eg3d, seed=seed)
        if steps:
            latent = replace(settings.latent, steps=min(steps, settings.latent.steps))
            tune = replace(settings.tune, steps=min(steps, settings.tune.steps))
            settings = replace(settings, latent=latent, tune=tune)
        return invert(
            image,
            camera,
            eg3d=eg3d,
            perceptual=perceptual,
            settings=settings,
            progress=progress,
        )
    if i2t is None:
        raise InputError(f"{way!r} needs the I2T of this EG3D, got none; give one, or use 'invert'")
    portrait = seen_at_once(image, eg3d, i2t)
    if way == "i2t":
        progress(1, 1)
        return portrait
    few_shot = few_shot_set(portrait, image[None].to(portrait.w), camera.to(portrait.w.device), "-")
    training = FinetuneSettings(iterations=steps or STEPS, seed=seed)
    made = finetune_portraits(
        None, "", [portrait], [few_shot], perceptual, settings=training, progress=progress
    )
    said = {**portrait.provenance, "photo": "planes", "steps": training.iterations}
    return replace(made.portraits[0], provenance=said)


def own_i2t(eg3d: EG3D) -> I2T | None:
    """Return the embedded I2T where it belongs to the generator, on its device."""
    if i2t_misfit(embedded("i2t"), eg3d) is not None:
        return None
    return load_i2t(embedded("i2t")).to(next(eg3d.parameters()).device)


@torch.no_grad()
def seen_at_once(image: Tensor, eg3d: EG3D, i2t: I2T) -> Portrait:
    """Return the portrait of planes that the I2T makes of a picture in one pass."""
    picture = checked_reference(image, eg3d)
    label = front_camera(eg3d.config.rig()).label().to(picture)
    w = eg3d.map(picture.new_zeros(1, eg3d.config.z_dim), label, psi=0.0)
    config = eg3d.config
    provenance = {"photo": "i2t", "eg3d": config.name, "licence": config.licence}
    triplane = Triplane(i2t(picture), config.box_size)
    return Portrait(eg3d.renderer(), triplane, w, provenance=provenance)
