"""The best run that ends in time: how many views and steps a budget pays for on this machine.

`measured` tries each kind of work, a few seconds in all; `Budget.planned` chooses the grid of views
from that; what is left when training begins goes into training (`Budget.training_seconds`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from .errors import InputError
from .geometry.cameras import front_camera
from .method.mesh import extract_mesh
from .method.render import render_views
from .method.sample import sample_portrait
from .method.stylize import stylize_views
from .pipeline import Models, PortraitSettings

GRIDS = (10, 9, 8, 7, 6, 5, 4, 3, 2)  # views per side that are chosen from
EDIT_SHARE = 0.4  # of the time before the results are shown, at most; training has the rest
STEPS_PER_VIEW = 4  # of training, at most: more learns the faults of the edits
SAVE_S = 3.0  # files of a style
MESH_GROWTH = 6.0  # a mesh of twice the resolution takes about as much longer
TRIED = 4  # views that are edited to see how long it takes
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Costs:
    """Seconds of each kind of work, as measured."""

    view: float  # render one
    edit: float  # one view, all steps
    mesh: float

    def shown(self, settings: PortraitSettings) -> float:
        """Return the time that all takes which comes after training."""
        views = settings.turntable.frames + 7  # and the sheet
        mixed = settings.mix_frames + 3 * settings.mix_steps if len(settings.prompts) == 2 else 0
        one = views * self.view + self.mesh + SAVE_S
        return len(settings.prompts) * one + mixed * self.view

    def edited(self, settings: PortraitSettings, grid: int) -> float:
        """Return the time to render and edit a grid of views, and the front."""
        return (grid * grid + 1) * (self.view + len(settings.prompts) * self.edit)


@dataclass(frozen=True)
class Budget:
    """A moment at which all shall be done."""

    end: float  # of `clock`
    clock: Callable[[], float] = time.perf_counter

    def left(self) -> float:
        """Return the seconds until the end."""
        return self.end - self.clock()

    def planned(self, settings: PortraitSettings, costs: Costs) -> PortraitSettings:
        """Return the settings with as many views as pay, and no more steps than help."""
        ahead = self.left() - costs.shown(settings)
        fits = [n for n in GRIDS if costs.edited(settings, n) <= EDIT_SHARE * ahead]
        grid = fits[0] if fits else GRIDS[-1]
        if not fits:
            _log.warning("the time is short for any run here; the smallest one is made")
        steps = STEPS_PER_VIEW * (grid * grid + 1) * len(settings.prompts)
        return replace(settings, views=grid, tune=replace(settings.tune, iterations=steps))

    def training_seconds(self, settings: PortraitSettings, costs: Costs) -> float:
        """Return how long training may take from now on."""
        return self.left() - costs.shown(settings)


def check_budget(seconds: float) -> None:
    """Raise unless this is a time."""
    if not 0 < seconds < float("inf"):
        raise InputError(f"the time budget must be a number of seconds above 0, got {seconds}")


def measured(
    models: Models, settings: PortraitSettings, clock: Callable[[], float] = time.perf_counter
) -> Costs:
    """Return what each kind of work costs here; takes about as long as four views."""

    def timed(work: Callable[[], object]) -> float:
        start = clock()
        work()
        return clock() - start

    portrait = sample_portrait(models.eg3d, settings.seed, psi=settings.psi)
    front = front_camera(models.eg3d.config.rig())
    image = render_views(portrait, front, settings=settings.render).image
    view = timed(lambda: render_views(portrait, front, settings=settings.render))
    images = image.expand(TRIED, -1, -1, -1)

    def edit(steps: int) -> float:
        few = replace(settings.edit, steps=steps, tau=1.0)
        words = settings.prompts[0]
        return timed(lambda: stylize_views(models.editor, images, words, settings=few))

    edit(1)  # the first call of a network does work of its own
    one, three = edit(1), edit(3)
    step = max(0.0, three - one) / 2
    steps = max(1, round(settings.edit.tau * settings.edit.suited(models.editor).count()))
    half = replace(settings.mesh, resolution=max(16, settings.mesh.resolution // 2))
    mesh = MESH_GROWTH * timed(lambda: extract_mesh(portrait, settings=half))
    return Costs(view, (one + (steps - 1) * step) / TRIED, mesh)
