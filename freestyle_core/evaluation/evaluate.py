"""How good one portrait is: `evaluate_portrait` renders it where it was not trained, and measures.

What can be measured depends on what is handed in. A score that needs something else is left out,
and `Evaluation.missing` says what it needs. Scores are in `metrics/`; what each means, and which
way is better, is in `report.py`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError, MismatchError
from ..geometry.warps import SOLID, Warps, pairs_at, view_angles, warps_between
from ..method.audit import dense_enough
from ..method.render import DEFAULT_SETTINGS, RenderSettings, render_views
from ..metrics.disagreement import view_disagreement
from ..metrics.image import clipped_share, psnr, sharpness
from ..metrics.surface import roughness
from ..metrics.warps import feature_error, warp_errors
from ..progress import Progress, enter_phase, no_progress
from ..training.losses import Perceptual, distance_name
from ..types import CameraBatch, CameraRig, FewShotSet, Portrait, Rendering
from .clip_scores import Encoder, clip_scores
from .picture import Shown, evaluation_picture
from .settings import EvaluateSettings, evenly

View = Callable[[CameraBatch], Rendering]
VIEWS_AT_ONCE = 4  # between two reports of progress
COMPARED_AT_ONCE = 8
PARTS = 3  # of the measuring: pictures, CLIP, warps
LEAST_RMSE = 1e-6  # of what agrees perfectly, so that a ratio stays finite


class Features(Protocol):
    """What the feature consistency asks of a network; `models.dino.Dino` is one."""

    name: str

    def features(self, images: Tensor) -> Tensor:
        """Return features [N,C,h,h] of images [N,3,H,H] in [0,1]."""


@dataclass(frozen=True)
class Evaluation:
    """What came out."""

    scores: dict[str, float]
    protocol: dict[str, Any]  # all that a score depends on, as plain values
    missing: dict[str, str]  # what was not measured, and what it needs
    picture: Tensor  # [3,H,W]
    disagreement: list[float] = field(default_factory=list)  # of each edited view, 1 is usual
    seconds: dict[str, float] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Return all but the picture as plain values for JSON."""
        return {
            "scores": dict(self.scores),
            "missing": dict(self.missing),
            "protocol": dict(self.protocol),
            "edited_disagreement": list(self.disagreement),
            "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
        }


def renderer_of(portrait: Portrait, settings: RenderSettings = DEFAULT_SETTINGS) -> View:
    """Return what renders a portrait for `evaluate_portrait`."""
    return partial(render_views, portrait, settings=settings)


@torch.no_grad()
def evaluate_portrait(
    render: View,
    *,
    rig: CameraRig,
    distance: Perceptual,
    clip: Encoder | None = None,
    dino: Features | None = None,
    prompt: str = "",  # the style's words; with none, what compares with them is left out
    original: View | None = None,  # the head before it was restyled
    edited: FewShotSet | None = None,  # what the portrait was learnt from
    truth: Callable[[CameraBatch], Tensor] | None = None,  # the true views [N,3,H,W] in [0,1]
    settings: EvaluateSettings | None = None,
    progress: Progress = no_progress,
) -> Evaluation:
    """Return the scores of a portrait, the protocol behind them and a picture that shows them.

    Networks and renderers must be on one device. The same inputs give the same scores.
    """
    work = _Work(
        render, rig, distance, settings or EvaluateSettings(), progress, original, edited, clip
    )
    work.look()
    scores: dict[str, float] = {}
    missing: dict[str, str] = {}
    seconds = {"rendering": work.seconds}
    begun = time.monotonic()
    work.begin(0)
    _of_pictures(work, scores)
    if clip is None:
        missing["clip"] = "no CLIP was given"
    else:
        work.begin(1)
        views = [work.held, work.path, work.original_held, work.original_path]
        images = [None if view is None else view.image for view in views]
        texts = work.settings.texts(prompt) if prompt.strip() else None
        clip_scores(clip, images, texts, scores, missing)
        seconds["clip"] = time.monotonic() - begun
    begun = time.monotonic()
    work.begin(2)
    disagreement = _of_warps(work, dino, scores, missing)
    if truth is not None:
        _of_truth(work, truth, scores)
    else:
        missing["truth"] = "nobody knows the true head"
    seconds["warps and distances"] = time.monotonic() - begun
    for name in [name for name, value in scores.items() if not math.isfinite(value)]:
        del scores[name]
        missing[name] = "no two views show enough of one surface"
    progress(work.total, work.total)
    protocol = _protocol(work, prompt, clip, dino)
    picture = evaluation_picture(work.shown(), disagreement)
    return Evaluation(scores, protocol, missing, picture, disagreement, seconds)


class _Work:
    """The views that everything is measured on."""

    def __init__(
        self,
        render: View,
        rig: CameraRig,
        distance: Perceptual,
        settings: EvaluateSettings,
        progress: Progress,
        original: View | None,
        edited: FewShotSet | None,
        clip: Encoder | None,
    ) -> None:
        self.render, self.original, self.distance = render, original, distance
        self.settings, self.progress = settings, progress
        self.cameras, self.path_cameras = settings.held_out(rig), settings.path(rig)
        self.tolerance = settings.tolerance * rig.radius
        self.edited = None if edited is None else _some(edited, settings.most_views)
        self.needs_path = clip is not None
        views = len(self.cameras) + len(self.path_cameras) * self.needs_path
        views += 0 if self.edited is None else len(self.edited.cameras)
        self.total = views * (1 if original is None else 2) + 1  # and the measuring itself
        self.done, self.seconds = 0, 0.0
        self.original_held: Rendering | None = None
        self.path: Rendering | None = None
        self.original_path: Rendering | None = None
        self.trained: Rendering | None = None  # the portrait where it was trained
        self.source: Rendering | None = None  # the head that the edited views show

    def look(self) -> None:
        """Render everything."""
        begun = time.monotonic()
        self.held = self._views(self.render, self.cameras, "held-out, view")
        if self.needs_path:
            self.path = self._views(self.render, self.path_cameras, "path, view")
        if self.edited is not None:
            self.trained = self._views(self.render, self.edited.cameras, "trained, view")
        if self.original is not None:
            self.original_held = self._views(self.original, self.cameras, "original, view")
            if self.needs_path:
                self.original_path = self._views(self.original, self.path_cameras, "original, view")
            if self.edited is not None:
                self.source = self._views(self.original, self.edited.cameras, "original, view")
        if self.edited is not None and self.edited.images.shape != self.seen.image.shape:
            raise MismatchError(
                f"the edited views are {tuple(self.edited.images.shape)}, the portrait renders "
                f"{tuple(self.seen.image.shape)}; give the views it was learnt from"
            )
        self.seconds = time.monotonic() - begun

    @property
    def seen(self) -> Rendering:
        """The portrait where it was trained, or the held-out views."""
        return self.held if self.trained is None else self.trained

    def edited_images(self) -> Tensor:
        """Return the edited views where the portrait's are."""
        assert self.edited is not None
        return self.edited.images.to(self.held.image)

    def warps(self, views: Rendering, degrees: float, size: int) -> Warps:
        """Return the warps between pairs of views, by what their own depth says."""
        pairs = pairs_at(views.cameras, degrees, self.settings.most_pairs)
        return warps_between(
            views.depth, views.alpha, views.cameras, pairs, size, tolerance=self.tolerance
        )

    def shown(self) -> Shown:
        """Return what the picture is made of."""
        edited = None if self.edited is None else self.edited_images()
        views = [self.seen, self.source if edited is not None else self.original_held]
        return Shown(
            portrait=self.seen,
            original=views[1],
            edited=edited,
            degrees=self.settings.long_deg,
            tolerance=self.tolerance,
            count=self.settings.pictures,
        )

    def begin(self, part: int) -> None:
        """Report that another part of the measuring begins."""
        enter_phase(self.progress, "measuring, part", part, PARTS)
        self.progress(self.done, self.total)

    def _views(self, render: View, cameras: CameraBatch, name: str) -> Rendering:
        parts: list[Rendering] = []
        for first in range(0, len(cameras), VIEWS_AT_ONCE):
            enter_phase(self.progress, name, first, len(cameras))
            self.progress(self.done, self.total)
            chosen = cameras[first : first + VIEWS_AT_ONCE]
            parts.append(render(chosen))
            self.done += len(chosen)
        image, raw, depth, alpha = (
            torch.cat([getattr(part, name) for part in parts])
            for name in ("image", "raw", "depth", "alpha")
        )
        return Rendering(image, raw, depth, alpha, cameras.to(depth.device))


def _of_pictures(work: _Work, scores: dict[str, float]) -> None:
    """Add what one picture after the other says."""
    held, before = work.held, work.original_held
    scores["sharpness"] = float(sharpness(held.image).mean())
    scores["clipped"] = _clipped(held)
    scores["roughness"] = _mean(roughness(held.depth, held.alpha, held.cameras))
    if before is not None:
        scores["sharpness_original"] = float(sharpness(before.image).mean())
        scores["clipped_gain"] = scores["clipped"] - _clipped(before)
        scores["roughness_original"] = _mean(roughness(before.depth, before.alpha, before.cameras))
    if work.edited is not None:
        scores["sharpness_edited"] = float(sharpness(work.edited_images()).mean())


def _of_warps(
    work: _Work, dino: Features | None, scores: dict[str, float], missing: dict[str, str]
) -> list[float]:
    """Add how well views agree; return the disagreement of each edited view."""
    _ranges(work, "", work.held, work.held.image, dino, scores)
    if dino is None:
        missing["feature_consistency"] = "no DINO was given"
    if work.edited is None:
        missing["edit_fidelity"] = missing["consistency_gain"] = "no edited views were given"
        return []
    images, trained = work.edited_images(), work.trained
    assert trained is not None
    scores["edit_fidelity"] = compared(work.distance, trained.image, images)
    if work.source is None:
        missing["consistency_gain"] = "no original was given, whose depth the edited views follow"
        return []
    source = work.source
    _ranges(work, "edited_", source, images, dino, scores)
    mine: dict[str, float] = {}
    _ranges(work, "trained_", trained, trained.image, None, mine)
    gains = []
    for name in ("short", "long"):
        own = mine[f"trained_warp_{name}_rmse"]
        gain = scores[f"edited_warp_{name}_rmse"] / (own if own > LEAST_RMSE else LEAST_RMSE)
        gain = gain if math.isfinite(own) else math.nan
        scores[f"consistency_gain_{name}"] = gain
        gains.append(gain)
    scores["consistency_gain"] = (gains[0] * gains[1]) ** 0.5
    if not dense_enough(source.cameras):
        missing["edited_disagreement"] = "the edited views lie too far apart to judge each of them"
        return []
    off = view_disagreement(
        images, source.depth, source.alpha, source.cameras, tolerance=work.tolerance
    )
    return [round(float(x), 4) for x in off]


def _ranges(
    work: _Work,
    prefix: str,
    views: Rendering,  # whose depth is used
    images: Tensor,  # of its cameras
    dino: Features | None,
    scores: dict[str, float],
) -> None:
    """Add the warp errors of images, near and far."""
    size = images.shape[-1]
    for name, degrees in (("short", work.settings.short_deg), ("long", work.settings.long_deg)):
        warps = work.warps(views, degrees, size)
        errors = warp_errors(images, warps, work.distance)
        rmse, perceptual = errors.mean()
        scores[f"{prefix}warp_{name}_rmse"] = rmse
        scores[f"{prefix}warp_{name}_perceptual"] = perceptual
        if dino is not None and name == "long":
            features = F.interpolate(dino.features(images), size=(size, size), mode="bilinear")
            scores[f"{prefix}feature_consistency"] = feature_error(features, warps)


def _of_truth(
    work: _Work, truth: Callable[[CameraBatch], Tensor], scores: dict[str, float]
) -> None:
    images = truth(work.cameras).to(work.held.image)
    if images.shape != work.held.image.shape:
        raise MismatchError(
            f"the truth is {tuple(images.shape)}, the portrait renders "
            f"{tuple(work.held.image.shape)}; draw it at the portrait's size"
        )
    scores["truth_psnr"] = float(psnr(work.held.image, images).mean())
    scores["truth_perceptual"] = compared(work.distance, work.held.image, images)


def compared(distance: Perceptual, a: Tensor, b: Tensor) -> float:
    """Return the mean perceptual distance of two batches of images, a few at a time."""
    parts = zip(a.split(COMPARED_AT_ONCE), b.split(COMPARED_AT_ONCE), strict=True)
    return float(torch.cat([distance(x, y).reshape(-1) for x, y in parts]).mean())


def _protocol(
    work: _Work, prompt: str, clip: Encoder | None, dino: Features | None
) -> dict[str, Any]:
    settings = work.settings
    text, neutral = settings.texts(prompt) if prompt.strip() else ("", settings.neutral)
    angles = {"held-out": _angles(work, work.cameras)}
    if work.edited is not None:
        angles["edited"] = _angles(work, work.edited.cameras)
    empty = work.held.alpha < 0.02
    shown = F.interpolate(work.held.image, size=empty.shape[-2:], mode="area").amin(1, keepdim=True)
    white = bool(empty.any()) and float(shown[empty].median()) > 0.95
    return {
        **asdict(settings),
        "prompt": prompt,
        "texts": [text, neutral],
        "clip": None if clip is None else clip.name,
        "dino": None if dino is None else dino.name,
        "perceptual": distance_name(work.distance),
        "held_out_views": len(work.cameras),
        "edited_views": 0 if work.edited is None else len(work.edited.cameras),
        "pixels": work.held.image.shape[-1],
        "depth_pixels": work.held.depth.shape[-1],
        "background": "white" if white else "the generator's own",
        "degrees_between_pairs": angles,
    }


def _angles(work: _Work, cameras: CameraBatch) -> list[float]:
    """Return the mean angle of the short and of the long pairs that there are."""
    apart, found = view_angles(cameras), []
    for degrees in (work.settings.short_deg, work.settings.long_deg):
        one, two = pairs_at(cameras, degrees, work.settings.most_pairs).unbind(1)
        found.append(round(float(apart[one, two].mean()), 2))
    return found


def _some(edited: FewShotSet, most: int) -> FewShotSet:
    """Return the set with at most so many views, the front among them."""
    if len(edited.cameras) < 2:
        raise InputError(f"edited views need at least 2 to compare, got {len(edited.cameras)}")
    chosen = evenly(len(edited.cameras), most)
    if edited.front not in chosen:
        chosen[0] = edited.front
    front = chosen.index(edited.front)
    return FewShotSet(edited.images[chosen], edited.cameras[chosen], front, edited.prompt)


def _clipped(views: Rendering) -> float:
    solid = F.interpolate(views.alpha, size=views.image.shape[-2:], mode="bilinear") > SOLID
    return float(clipped_share(views.image, solid).mean())


def _mean(values: Tensor | Sequence[float]) -> float:
    return float(torch.as_tensor(values).nanmean())
