"""A picture of a head becomes a portrait: what photographs enter by.

`invert` is the sum of what was measured to work (docs/baselines.md): the search for w starts from
the most similar of many heads, then the whole generator is tuned to the picture, further than
published. A w for each layer comes nearer to the picture before the tuning, and ends further from
the truth at the sides. The published ways are in `gan_inversion.py` and `hfgi3d.py`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..files.networks import embedded, load_eg3d
from ..files.perceptual import load_distance
from ..models.eg3d import EG3D
from ..progress import Progress, no_progress
from ..training.losses import Perceptual
from ..types import CameraBatch, Portrait
from .gan_inversion import LITE_RENDER, GanInversionSettings, TuneSettings, fit
from .latent import LatentSettings
from .protocol import BaselineModels


def invert_settings(eg3d: EG3D, **given: Any) -> GanInversionSettings:
    """Return the settings of `invert`; `given` replaces some.

    Generators of small pictures are rendered with fewer samples.
    """
    small = eg3d.config.image_resolution < 256
    own: dict[str, Any] = {
        "latent": LatentSettings(
            space="w", steps=160, idle_steps=0, samples=600, psi=1.0, starts=64
        ),
        "tune": TuneSettings(steps=200, stop=0.03),
        **({"render": LITE_RENDER} if small else {}),
    }
    return GanInversionSettings(**{**own, **given})


def invert(
    image: Tensor,  # [3,H,H] in [0,1], a square picture of one head, cropped as the generator's are
    camera: CameraBatch | None = None,  # the one that took it; None: the front camera
    *,
    eg3d: EG3D | None = None,  # None: the embedded generator
    perceptual: Perceptual | None = None,  # None: what `load_distance` finds for its pictures
    settings: GanInversionSettings | None = None,  # None: `invert_settings`
    progress: Progress = no_progress,
) -> Portrait:
    """Return the head that the picture shows, as a portrait that can be rendered, edited and saved.

    Its renderer is tuned for it alone, and its files carry that renderer. `eg3d` stays as it is.
    Raises ShapeError for a picture that is not square or not in [0,1].
    """
    eg3d = eg3d if eg3d is not None else load_eg3d(embedded("eg3d"))
    if perceptual is None:
        distance = load_distance(image_resolution=eg3d.config.image_resolution)
        perceptual = distance.to(next(eg3d.parameters()).device)
    models = BaselineModels(eg3d, perceptual)
    settings = settings or invert_settings(eg3d)
    portrait = fit(image, "", models, settings, progress, camera=camera).portrait
    assert portrait is not None  # this rival makes one
    return portrait
