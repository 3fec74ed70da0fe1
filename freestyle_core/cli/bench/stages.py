"""What is compared: for each stage, the same work the naive way and ours, and what a preset does.

`naive` and `same` do equal work, with the paper's settings, and make equal pictures. `preset` is
ours with the settings of a preset; where those are the paper's it is not measured again. A unit is
a view, a frame or a step; `whole` says how many units a portrait takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...baselines.naive import naive_edits, naive_finetune, naive_views
from ...method.fewshot import few_shot_set
from ...method.finetune import FinetuneSettings, finetune_portraits
from ...method.mesh import extract_mesh
from ...method.render import render_views
from ...method.sample import sample_portrait
from ...method.stylize import StylizeSettings, stylize_views
from ...metrics.image import psnr
from ...models.i2t import I2T
from ...pipeline import Models, PortraitSettings, make_portrait, sheet_views
from ...progress import Portion, Progress
from ...types import CameraBatch, FewShotSet, Portrait

STYLE = "a bronze statue"

# units, what to call when the preparations are over, progress -> the result
Way = Callable[[int, Callable[[], None], Progress], Any]


@dataclass(frozen=True)
class Stage:
    """One stage and the ways through it."""

    unit: str
    units: int  # of one measurement
    ways: Mapping[str, Way]  # naive, same, and preset where its work is another
    whole: Mapping[str, int]  # units of a whole portrait: naive, same and preset
    alike: Callable[[Any, Any], str]  # what naive and same returned -> how equal they are


@dataclass(frozen=True)
class Bench:
    """The models, and what a portrait takes with the paper's settings and with the preset's."""

    models: Models
    i2t: I2T  # the models' own, or one with random weights
    paper: PortraitSettings
    preset: PortraitSettings

    def stages(self, units: Mapping[str, int]) -> dict[str, Stage]:
        """Return the stages named in `units`, each measured on so many units at a time."""
        with torch.inference_mode(False):
            portrait = sample_portrait(self.models.eg3d, self.paper.seed, psi=self.paper.psi)
            views = max(units.get("edit", 1), 1)
            cameras = _cycled(self._cameras(self.paper), views)
            images = render_views(portrait, cameras).image
        made = {
            "edit": lambda n: self._edit(images, n),
            "render": lambda n: self._render(n),
            "finetune": lambda n: self._finetune(portrait, images, n),
            "whole": lambda n: self._whole(n),
        }
        return {name: made[name](count) for name, count in units.items()}

    def _edit(self, images: Tensor, units: int) -> Stage:
        editor = self.models.editor

        def naive(count: int, ready: Any, progress: Progress) -> Tensor:
            some = images[:count]
            return naive_edits(editor, some, STYLE, settings=self.paper.edit, progress=progress)

        def ours(settings: StylizeSettings) -> Way:
            def run(count: int, ready: Any, progress: Progress) -> Tensor:
                some = images[:count]
                return stylize_views(editor, some, STYLE, settings=settings, progress=progress)

            return run

        ways = {"naive": naive, "same": ours(self.paper.edit)}
        if _work(self.preset.edit) != _work(self.paper.edit):
            ways["preset"] = ours(self.preset.edit)
        return Stage("view", units, ways, self._counts(_views), _psnr)

    def _render(self, units: int) -> Stage:
        eg3d, cameras = self.models.eg3d, _cycled(self._turn(self.paper), units)
        paper, preset = self.paper.render, self.preset.render

        def naive(count: int, ready: Any, progress: Progress) -> Tensor:
            w = sample_portrait(eg3d, self.paper.seed, psi=self.paper.psi).w
            ready()
            with torch.no_grad():
                return naive_views(
                    eg3d.renderer(),
                    lambda: eg3d.planes(w),
                    w,
                    cameras[slice(count)],
                    settings=paper,
                    progress=progress,
                )

        def ours(settings: Any) -> Way:
            def run(count: int, ready: Any, progress: Progress) -> Tensor:
                portrait = sample_portrait(eg3d, self.paper.seed, psi=self.paper.psi)
                ready()
                some = cameras[slice(count)]
                return render_views(portrait, some, settings=settings, progress=progress).image

            return run

        ways = {"naive": naive, "same": ours(paper)}
        if preset != paper:
            ways["preset"] = ours(preset)
        return Stage("frame", units, ways, self._counts(_frames), _psnr)

    def _finetune(self, portrait: Portrait, images: Tensor, units: int) -> Stage:
        perceptual = self.models.perceptual

        def naive(count: int, ready: Any, progress: Progress) -> list[float]:
            settings = _shortened(self.paper.tune, count)
            few_shot = self._views_to_learn(self.paper, images)
            told = _Told(ready, progress)
            made = naive_finetune(
                self.i2t, portrait, few_shot, perceptual, settings=settings, progress=told
            )
            return made.losses

        def ours(of: PortraitSettings) -> Way:
            def run(count: int, ready: Any, progress: Progress) -> list[float]:
                made = finetune_portraits(
                    self.i2t,
                    "",
                    [portrait],
                    [self._views_to_learn(of, images)],
                    perceptual,
                    settings=_shortened(of.tune, count),
                    progress=_Told(ready, progress),
                )
                return made.losses["total"]

            return run

        ways = {"naive": naive, "same": ours(self.paper)}
        if _work(self.preset.tune) != _work(self.paper.tune):
            ways["preset"] = ours(self.preset)
        return Stage("step", units, ways, self._counts(lambda s: s.tune.iterations), _losses)

    def _whole(self, units: int) -> Stage:
        def naive(count: int, ready: Any, progress: Progress) -> Any:
            for index in range(count):
                self._naive_portrait(Portion(progress, index / count, (index + 1) / count))

        def preset(count: int, ready: Any, progress: Progress) -> Any:
            for index in range(count):
                progress(index, count)
                make_portrait(self.models, self.preset)

        ways = {"naive": naive, "preset": preset}
        counts = {"naive": 1, "same": 1, "preset": 1}
        return Stage("portrait", units, ways, counts, lambda a, b: "")

    def _naive_portrait(self, progress: Progress) -> None:
        """Make a portrait and what is shown of it the naive way; nothing is written."""
        eg3d, paper = self.models.eg3d, self.paper
        cameras = self._cameras(paper)
        portrait = sample_portrait(eg3d, paper.seed, psi=paper.psi)
        w, prompt = portrait.w, paper.prompts[0]
        images = naive_views(
            portrait.renderer,
            lambda: eg3d.planes(w),
            w,
            cameras,
            settings=paper.render,
            progress=Portion(progress, 0.0, 0.1),
        )
        edited = naive_edits(
            self.models.editor,
            images,
            prompt,
            settings=paper.edit,
            progress=Portion(progress, 0.1, 0.5),
        )
        few_shot = few_shot_set(portrait, edited, cameras, prompt)
        tuned = naive_finetune(
            self.i2t,
            portrait,
            few_shot,
            self.models.perceptual,
            settings=replace(paper.tune, preview_every=0),
            progress=Portion(progress, 0.5, 0.9),
        )
        front = few_shot.images[few_shot.front][None]
        shown = CameraBatch.cat([cameras[sheet_views(paper.views)], self._turn(paper)])
        naive_views(
            portrait.renderer,
            lambda: tuned.network(front),
            w,
            shown,
            settings=paper.render,
            progress=Portion(progress, 0.9, 1.0),
        )
        with torch.no_grad():
            triplane = replace(portrait.triplane, planes=tuned.network(front))
        extract_mesh(replace(portrait, triplane=triplane), settings=paper.mesh)

    def _views_to_learn(self, of: PortraitSettings, images: Tensor) -> FewShotSet:
        """Return as many views as those settings have, in other colours; pictures come again."""
        cameras = self._cameras(of)
        rows = torch.arange(len(cameras), device=images.device) % len(images)
        return FewShotSet(1 - images[rows], cameras, 0, STYLE)

    def _cameras(self, of: PortraitSettings) -> CameraBatch:
        eg3d = self.models.eg3d
        return of.cameras(eg3d.config.rig()).to(next(eg3d.parameters()).device)

    def _turn(self, of: PortraitSettings) -> CameraBatch:
        eg3d = self.models.eg3d
        cameras = of.turntable.cameras(eg3d.config.rig())
        return cameras.to(next(eg3d.parameters()).device)

    def _counts(self, count: Callable[[PortraitSettings], int]) -> dict[str, int]:
        paper, preset = count(self.paper), count(self.preset)
        return {"naive": paper, "same": paper, "preset": preset}


class _Told:
    """A progress that says when the first report comes: the preparations are over."""

    def __init__(self, ready: Callable[[], None], progress: Progress) -> None:
        self.ready, self.progress, self.told = ready, progress, False

    def __call__(self, done: float, total: int, preview: Tensor | None = None) -> None:
        if not self.told:
            self.told = True
            self.ready()
        self.progress(done, total, preview)


def _views(of: PortraitSettings) -> int:
    return 1 + of.views**2


def _frames(of: PortraitSettings) -> int:
    return _views(of) + len(sheet_views(of.views)) + of.turntable.frames


def _shortened(tune: FinetuneSettings, steps: int) -> FinetuneSettings:
    return replace(tune, iterations=steps, preview_every=0)


def _work(settings: Any) -> Any:
    """Return the settings without what does not change a unit of work."""
    same = {"iterations": 1, "preview_every": 0, "seed": 0}
    return replace(settings, **{k: v for k, v in same.items() if hasattr(settings, k)})


def _cycled(cameras: CameraBatch, count: int) -> CameraBatch:
    return cameras[[index % len(cameras) for index in range(count)]]


def _psnr(naive: Tensor, same: Tensor) -> str:
    difference = float((naive.float() - same.float()).abs().max())
    return f"{float(psnr(naive, same).min()):.0f} dB, at most {difference:.1g} apart"


def _losses(naive: list[float], same: list[float]) -> str:
    """Compare the first step and the last: Adam makes much of a gradient that is only rounding."""
    apart = [abs(a - b) / max(abs(a), 1e-9) for a, b in zip(naive, same, strict=True)]
    return f"loss {apart[0]:.1g} of its value apart in step 1, {apart[-1]:.1g} in step {len(apart)}"
