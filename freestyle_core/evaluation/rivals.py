"""The rivals as rows of the matrix: what each is called, follows and is set to. Read `RIVALS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..baselines import dreamfusion, gan_inversion, hfgi3d
from ..baselines.gan_inversion import GanInversionSettings
from ..baselines.generator_tuning import GeneratorTuningSettings
from .methods import GENERATOR, Method


@dataclass(frozen=True)
class Rival:
    """One method of `baselines/`."""

    fit: Callable[..., Any]  # (reference, prompt, models, settings, progress) -> its result
    published: Any  # its settings as published
    lite: Any  # for few cores and the embedded models
    follows_picture: bool = True  # the edited front view; otherwise the words alone


RIVALS = {
    "3dgan-inv": Rival(gan_inversion.fit, GanInversionSettings(), GanInversionSettings.lite()),
    "hfgi3d": Rival(hfgi3d.fit, hfgi3d.FAITHFUL, hfgi3d.FAITHFUL.lite()),
    "dreamfusion": Rival(
        dreamfusion.fit, dreamfusion.FAITHFUL, dreamfusion.LITE, follows_picture=False
    ),
}


def rival_settings(method: Method, seed: int) -> Any:
    """Return the settings with which a rival makes a head."""
    rival = RIVALS[method.runner]
    return replace(rival.lite if method.lite else rival.published, seed=seed, preview_every=0)


def generator_settings(method: Method, prompt: str, seed: int) -> GeneratorTuningSettings:
    """Return the settings with which a whole generator learns what the method's planes would."""
    return GeneratorTuningSettings(tune=method.settings(prompt, seed).resolved().tune)


def rival_record(method: Method, seed: int) -> Mapping[str, Any] | None:
    """Return a rival's settings as plain values, None for a method that is no rival."""
    if method.runner == GENERATOR:
        return {"learning_rate": GeneratorTuningSettings.learning_rate}
    if method.runner not in RIVALS:
        return None
    return asdict(rival_settings(method, seed))
