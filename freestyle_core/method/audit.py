"""Which edited views do not fit the others, and how much each may count in fine-tuning.

An editor now and then makes another person, or another style, of one view. The depth of the head
that was edited says where each point lies in every view, so views that disagree with those around
them can be told without knowing what is right. Read `audit`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..geometry.warps import TOLERANCE, view_angles
from ..metrics.disagreement import view_disagreement, view_weights
from ..progress import Progress, no_progress
from ..types import CameraBatch, CameraRig, FewShotSet, Portrait, Rendering
from .render import DEFAULT_SETTINGS, RenderSettings, render_views

# between a view and its second nearest, usually: of views farther apart, 15 degrees for a grid of
# 5 x 5 within 30, a wrong one is not told from a right one any more
MOST_APART_DEG = 12.5
DOUBTED = 0.5  # of the weight: below, a view is said not to fit
_CAMERA = 2.7  # scene units, the distance that TOLERANCE is meant for


@dataclass(frozen=True)
class Audit:
    """What the warps say of each view of a few-shot set, on the CPU."""

    disagreement: Tensor  # [V], 1 is usual
    weights: Tensor  # [V], in (0,1]: how much it may count


@dataclass(frozen=True)
class Auditor:
    """Judges any edits of one head at the same cameras, by one rendering of it."""

    seen: Rendering | None  # V views; None: they lie too far apart to be judged
    views: int  # V
    tolerance: float  # scene units that two depths of one point may differ

    @torch.no_grad()
    def judge(self, images: Tensor) -> Audit:  # [V,3,H,W], in [0,1]
        """Return how well each edited view fits those around it."""
        if self.seen is None:
            full = torch.ones(self.views)
            return Audit(full, full)
        seen = self.seen
        disagreement = view_disagreement(
            images, seen.depth, seen.alpha, seen.cameras, tolerance=self.tolerance
        ).cpu()
        return Audit(disagreement, view_weights(disagreement))


def auditor_of(
    portrait: Portrait,  # the head that is edited
    cameras: CameraBatch,  # V
    *,
    seen: Rendering | None = None,  # its views at these cameras, where they are at hand
    settings: RenderSettings = DEFAULT_SETTINGS,
    progress: Progress = no_progress,
) -> Auditor:
    """Return the judge of a head's edits; views that lie too far apart cost no rendering."""
    if not dense_enough(cameras):
        seen = None
    elif seen is None:
        seen = render_views(portrait, cameras, settings=settings, progress=progress)
    return Auditor(seen, len(cameras), tolerance_of(portrait.renderer.config.rig()))


def audit(
    portrait: Portrait,  # the head that was edited
    few_shot: FewShotSet,
    *,
    settings: RenderSettings = DEFAULT_SETTINGS,
    progress: Progress = no_progress,
) -> Audit:
    """Return how well each edited view fits those around it; the portrait is rendered for that.

    Views that lie too far apart all count in full: see docs/evaluation.md for what is found.
    """
    judge = auditor_of(portrait, few_shot.cameras, settings=settings, progress=progress)
    return judge.judge(few_shot.images)


def dense_enough(cameras: CameraBatch) -> bool:
    """Return whether views lie so near to each other that wrong ones can be told."""
    if len(cameras) < 3:
        return False
    nearest = view_angles(cameras).sort(dim=1).values[:, 2]  # the first is the view itself
    return float(nearest.median()) <= MOST_APART_DEG


def doubted(weights: Tensor) -> list[int]:
    """Return the views that do not fit the others, by their weights [V]."""
    return (weights < DOUBTED).nonzero()[:, 0].tolist()


def tolerance_of(rig: CameraRig) -> float:
    """Return by how many scene units two depths of one point may differ, for these cameras."""
    return TOLERANCE * rig.radius / _CAMERA
