"""How much work a run does: the presets of the command line, of the measures and of the sheets."""

from __future__ import annotations

from dataclasses import dataclass

from .method.finetune import FinetuneSettings
from .method.mesh import MeshSettings
from .method.stylize import StylizeSettings
from .pipeline import PortraitSettings
from .visualize.turntable import Path, TurntableSettings


@dataclass(frozen=True)
class Preset:
    """The numbers that trade time for quality; left out, they are the library's defaults."""

    views: int = PortraitSettings.views
    steps: int = StylizeSettings.steps  # of the edit's denoising
    iterations: int = FinetuneSettings.iterations  # of fine-tuning, for each style
    frames: int = TurntableSettings.frames
    resolution: int = MeshSettings.resolution

    def settings(
        self,
        *prompts: str,
        seed: int = 0,
        psi: float = PortraitSettings.psi,
        tau: float = StylizeSettings.tau,
        path: Path = TurntableSettings.path,
        mix_steps: int = PortraitSettings.mix_steps,
    ) -> PortraitSettings:
        """Return the settings of a run."""
        return PortraitSettings(
            prompts=prompts,
            seed=seed,
            psi=psi,
            views=self.views,
            mix_steps=mix_steps,
            edit=StylizeSettings(steps=self.steps, tau=tau),
            # two styles take turns, so each needs its own share
            tune=FinetuneSettings(iterations=self.iterations * len(prompts)),
            turntable=TurntableSettings(path=path, frames=self.frames),
            mesh=MeshSettings(resolution=self.resolution),
        )


DEFAULT = Preset()
QUICK = Preset(views=4, steps=10, iterations=80, frames=36, resolution=128)
