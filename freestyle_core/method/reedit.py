"""Edit again, with another noise, those views of a set that do not fit the others.

The audit says which they are. A new edit is taken only where it fits better than the one before it,
so by the measure of the audit no set ever becomes worse. Read `reedit_views`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError, ShapeError
from ..models.editor import ImageEditor
from ..progress import Portion, Progress, no_progress
from ..seeds import MAX_SEED
from ..types import CameraBatch, FewShotSet, Portrait, Rendering
from .audit import Audit, Auditor, auditor_of, doubted
from .render import DEFAULT_SETTINGS, RenderSettings, render_views
from .stylize import StylizeSettings, stylize_views

# of editing again: a second noise mends some of what the first does not, a third hardly anything
ROUNDS = 2
MOST_ROUNDS = 16
REPLACED = "reedited_views"  # where a portrait's provenance says which views were made anew


@dataclass(frozen=True)
class Reedited:
    """A set with some of its views made anew."""

    few_shot: FewShotSet
    doubted: list[int]  # the views that did not fit, at first or once others were better
    replaced: list[int]  # those of them that have another edit now
    before: Tensor  # [V], disagreement of the views as they came, 1 is usual
    after: Tensor  # [V], of those that are returned

    def __str__(self) -> str:
        return (
            f"{len(self.doubted)} of {len(self.few_shot.cameras)} edited views did not fit the "
            f"others; {len(self.replaced)} replaced"
        )


def reedit_views(
    editor: ImageEditor,
    portrait: Portrait,  # the head that was edited
    views: Tensor,  # [V,3,H,W], in [0,1]: its renderings, which the editor was given
    few_shot: FewShotSet,  # V, what the editor made of them
    *,
    seen: Rendering | None = None,  # the same views with their depth, where that is at hand
    settings: StylizeSettings | None = None,  # that the set was edited with
    rounds: int = ROUNDS,  # noises to try, at most
    render: RenderSettings = DEFAULT_SETTINGS,  # of the depth, where it is not
    edit: Callable[..., Tensor] = stylize_views,  # or `kept_views`
    progress: Progress = no_progress,
) -> Reedited:
    """Return the set with better edits of the views that fit badly, where such were found.

    In each round the views that are still doubted are edited with the next seed. Sets whose views
    lie too far apart to be judged come back as they are (`audit.dense_enough`), as do those without
    a doubted view; neither costs an edit. `few_shot` is not changed.
    Raises InputError for fewer than one round, ShapeError for other views than the set has.
    """
    settings = settings or StylizeSettings()
    if not 1 <= rounds <= MOST_ROUNDS:
        raise InputError(f"rounds must be 1 to {MOST_ROUNDS}, got {rounds}")
    if len(views) != len(few_shot.cameras):
        raise ShapeError(
            f"got {len(views)} renderings for a set of {len(few_shot.cameras)} edited views; give "
            "the renderings that were edited"
        )
    auditor = auditor_of(portrait, few_shot.cameras, seen=seen, settings=render)
    images = few_shot.images
    first = found = auditor.judge(images)
    ever: set[int] = set()
    for number in range(rounds):
        bad = doubted(found.weights)
        if not bad:
            break
        ever.update(bad)
        # the front view goes along where the others have to see it
        beside = [few_shot.front] if settings.suited(editor).reference == "front" else []
        rows = [*beside, *bad]
        made = edit(
            editor,
            views[rows],
            few_shot.prompt,
            settings=replace(settings, seed=next_seed(settings.seed, number + 1)),
            **surface_views(
                portrait, few_shot.cameras, settings, seen or auditor.seen, render, rows
            ),
            progress=Portion(progress, number / rounds, (number + 1) / rounds),
        )[len(beside) :]
        images, found = better(auditor, images, found, bad, _at_size(made, images))
    progress(1, 1)
    changed = (images != few_shot.images).flatten(1).any(dim=1).nonzero()[:, 0]
    return Reedited(
        replace(few_shot, images=images),
        sorted(ever),
        changed.tolist(),
        first.disagreement,
        found.disagreement,
    )


def better(
    auditor: Auditor,
    images: Tensor,  # [V,3,H,W]
    found: Audit,  # of `images`
    bad: list[int],  # N views that may be replaced
    made: Tensor,  # [N,3,H,W], by what
) -> tuple[Tensor, Audit]:
    """Return the set with those replacements that fit better than what they replace.

    Each is judged among all that are taken, and the views of the set together do not disagree more
    than before; replacements are left out, the least better one first, until both hold. (Weights
    cannot say that: beside one view that is far off all others look alike and count in full.)
    """
    taken = list(range(len(bad)))
    while taken:
        rows = [bad[index] for index in taken]
        tried = images.clone()
        tried[rows] = made[taken]
        now = auditor.judge(tried)
        gain = (found.disagreement - now.disagreement)[rows]
        worse = (gain <= 0).nonzero()[:, 0].tolist()
        if not worse and float(now.disagreement.sum()) <= float(found.disagreement.sum()):
            return tried, now
        dropped = worse or [int(gain.argmin())]
        taken = [index for place, index in enumerate(taken) if place not in dropped]
    return images, found


def surface_views(
    portrait: Portrait,
    cameras: CameraBatch,  # V
    settings: StylizeSettings,
    seen: Rendering | None,  # the views with their depth, where they are at hand
    render: RenderSettings = DEFAULT_SETTINGS,
    rows: Sequence[int] | None = None,  # those that are edited; None: all
) -> dict[str, Any]:
    """Return what an edit must be given besides: the views, where noise lies on the surface."""
    if settings.noise != "surface":
        return {}
    if seen is None:
        seen = render_views(portrait, cameras, settings=render)
    return {"seen": seen.part(range(len(cameras)) if rows is None else rows)}


def next_seed(seed: int, number: int) -> int:
    """Return the seed `number` after one; after the largest comes 0."""
    return (seed + number) % (MAX_SEED + 1)


def _at_size(made: Tensor, images: Tensor) -> Tensor:
    """Return edits as the set holds its own, see `few_shot_set`."""
    if made.shape[-1] != images.shape[-1]:
        made = F.interpolate(made, size=images.shape[2:], mode="bicubic", antialias=True)
    return made.to(images).clamp(0, 1)
