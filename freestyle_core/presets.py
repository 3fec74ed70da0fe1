"""How much work a run does: the presets of the command line, the nodes, measures and sheets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from .method.finetune import FinetuneSettings
from .method.finetune_settings import Train
from .method.mesh import MeshSettings
from .method.stylize import StylizeSettings
from .pipeline import PortraitSettings
from .visualize.turntable import Path, TurntableSettings


@dataclass(frozen=True)
class Preset:
    """The numbers that trade time for quality; left out, they are the library's defaults."""

    views: int = PortraitSettings.views
    steps: int | None = StylizeSettings.steps  # of the edit's denoising; None: the editor's
    train: Train = FinetuneSettings.train
    iterations: int = FinetuneSettings.iterations  # of fine-tuning, for each style
    batch_size: int = FinetuneSettings.batch_size
    sample_share: float = FinetuneSettings.sample_share  # of the samples per ray, in training
    skip_empty: bool = FinetuneSettings.skip_empty  # in training
    fade: float = FinetuneSettings.fade  # share of the training in which its rate falls
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
            tune=self.tune(len(prompts)),
            turntable=TurntableSettings(path=path, frames=self.frames),
            mesh=MeshSettings(resolution=self.resolution),
        )

    def tune(self, styles: int = 1, **given: Any) -> FinetuneSettings:
        """Return the settings of fine-tuning some styles together; `given` replaces some."""
        # styles take turns, so each needs its own share
        own: dict[str, Any] = {
            "train": self.train,
            "iterations": self.iterations * styles,
            "batch_size": self.batch_size,
            "sample_share": self.sample_share,
            "skip_empty": self.skip_empty,
            "fade": self.fade,
        }
        return FinetuneSettings(**{**own, **given})

    def training(self, train: Train) -> Preset:
        """Return the preset for something else to train; a network needs the paper's steps."""
        if train == self.train or train == "planes":
            return replace(self, train=train)
        return replace(
            self,
            train=train,
            iterations=PAPER.iterations,
            sample_share=PAPER.sample_share,
            skip_empty=PAPER.skip_empty,
            fade=PAPER.fade,
        )

    def but(self, **given: Any) -> Preset:
        """Return the preset with the numbers that are given; None keeps the preset's."""
        return replace(self, **{name: x for name, x in given.items() if x is not None})


BALANCED = Preset()
QUALITY = Preset(views=10, iterations=400, sample_share=2 / 3)
FAST = Preset(views=3, steps=8, iterations=36, frames=30, resolution=128)
PAPER = Preset(
    views=10,
    steps=20,
    train="i2t",
    iterations=450,
    batch_size=1,
    sample_share=1.0,
    fade=0.4,
)
DEFAULT = BALANCED
MEASURED = (  # a whole `portrait` command; the decibels at psi 1
    "On two processor cores with the embedded models and all files: fast 20 s (36 portraits of "
    "three heads: 18.9 dB from the true restyled heads), balanced 57 s (19.9 dB), the paper's way "
    "3:24 (20.0 dB). quality edits twice as many pictures as balanced and trains almost three "
    "times as long."
)
PRESETS = {"fast": FAST, "balanced": BALANCED, "quality": QUALITY, "paper": PAPER}


def chosen(
    name: str | None = None,  # of PRESETS; None for the default
    *,
    train: Train | None = None,  # what is trained instead of what the preset trains
    **numbers: Any,  # fields of a preset; None keeps the preset's
) -> Preset:
    """Return a preset changed as a user asks."""
    preset = PRESETS[name] if name else DEFAULT
    return (preset if train is None else preset.training(train)).but(**numbers)
