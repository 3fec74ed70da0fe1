"""Ip2p + 3DGAN-Inv and Ip2p + HFGI3D (the paper's Fig. 7): edit the front view, then invert it.

One edited picture says nothing of the sides, which is what the paper's hundred edited views are
for; all else is the same, down to the editor's settings.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..errors import InputError
from ..method.stylize import StylizeSettings, stylize_views
from ..progress import Portion, Progress, no_progress
from ..types import CameraBatch
from . import gan_inversion, hfgi3d
from .gan_inversion import GanInversionSettings
from .hfgi3d import HFGI3DSettings
from .protocol import BaselineModels, Fitted, checked_reference, timed

Inversion = Literal["3dgan-inv", "hfgi3d"]


@dataclass(frozen=True)
class EditedFrontSettings:
    """Which inversion, and how both halves work; the defaults are the published ones."""

    inversion: Inversion = "3dgan-inv"
    edit: StylizeSettings = field(default_factory=StylizeSettings)
    gan_inversion: GanInversionSettings = field(default_factory=GanInversionSettings)
    hfgi3d: HFGI3DSettings = field(default_factory=HFGI3DSettings)

    def __post_init__(self) -> None:
        if self.inversion not in get_args(Inversion):
            raise InputError(
                f"inversion must be one of {', '.join(get_args(Inversion))}, got {self.inversion!r}"
            )

    @classmethod
    def lite(cls, inversion: Inversion = "3dgan-inv", **given: Any) -> EditedFrontSettings:
        """Return settings for two CPU cores and the clay generator."""
        own = {
            "gan_inversion": GanInversionSettings.lite(),
            "hfgi3d": hfgi3d.FAITHFUL.lite(),
        }
        return cls(inversion, **{**own, **given})

    def seeded(self, seed: int) -> EditedFrontSettings:
        """Return the same with one seed for all of it."""
        return replace(
            self,
            edit=replace(self.edit, seed=seed),
            gan_inversion=replace(self.gan_inversion, seed=seed),
            hfgi3d=replace(self.hfgi3d, seed=seed),
        )


def fit(
    reference: Tensor,  # [3,H,H] in [0,1], the front view before it is edited
    prompt: str,  # the style
    models: BaselineModels,
    settings: EditedFrontSettings | None = None,
    progress: Progress = no_progress,
    *,
    camera: CameraBatch | None = None,  # one, if it is not the front camera
) -> Fitted:
    """Return the head that looks like the edited reference, which is in the result.

    Raises InputError where there is no editor or no prompt.
    """
    settings = settings or EditedFrontSettings()
    if models.editor is None:
        raise InputError("editing the front view needs an editor, got none; load one")
    settings.edit.prompt(prompt)  # refuses an empty one
    view = checked_reference(reference, models.eg3d)
    seconds: dict[str, float] = {}
    with timed(seconds, "edit"), torch.no_grad():
        edited = stylize_views(
            models.editor, view, prompt, settings=settings.edit, progress=Portion(progress, 0, 0.1)
        )
    rest = Portion(progress, 0.1, 1.0)
    if settings.inversion == "hfgi3d":
        fitted = hfgi3d.fit(edited[0], prompt, models, settings.hfgi3d, rest, camera=camera)
    else:
        own = settings.gan_inversion
        fitted = gan_inversion.fit(edited[0], prompt, models, own, rest, camera=camera)
    return replace(fitted, seconds={**seconds, **fitted.seconds})
