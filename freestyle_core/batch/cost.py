"""How much work a job is, in seconds of one processor core with the embedded models.

Only proportions matter: they make one bar of jobs of several presets, and one share of the stages
of a job. The seconds are those of the README's table, per view, step and frame.
"""

from __future__ import annotations

from ..pipeline import PortraitSettings
from ..progress import Bar, Progress, Stages
from ..restyle import SHEET_YAWS_DEG

VIEW, EDIT_STEP, TRAIN_STEP, FRAME, MESH, SAVE = 0.08, 0.022, 0.17, 0.08, 2.0, 1.5
APPLY, PHOTO = 0.2, 9.0  # a style pack; a photograph becomes a portrait
STEPS = 10  # of an edit, where the editor chooses


def stage_costs(settings: PortraitSettings) -> list[float]:
    """Return the work of each stage of `pipeline.make_portrait`, in its order, and of saving."""
    views = 1 + settings.views**2
    steps = settings.edit.steps or STEPS
    styles = len(settings.prompts)
    turntable = settings.turntable.frames * FRAME
    mesh = MESH * (settings.mesh.resolution / 192) ** 3
    costs = [views * VIEW, *[views * steps * EDIT_STEP] * styles]
    costs += [settings.tune.iterations * settings.tune.batch_size * TRAIN_STEP]
    costs += [turntable, mesh] * styles
    if styles == 2:
        costs.append(settings.mix_frames * FRAME)
    return [*costs, SAVE]


def pack_costs(settings: PortraitSettings) -> list[float]:
    """Return the work of each stage of `restyle.restyle`, in its order, and of saving."""
    views = 2 * len(SHEET_YAWS_DEG) + settings.turntable.frames
    return [APPLY, views * FRAME, MESH * (settings.mesh.resolution / 192) ** 3, SAVE]


def job_cost(settings: PortraitSettings, *, by_pack: bool = False) -> float:
    """Return the work of a job."""
    return sum(pack_costs(settings) if by_pack else stage_costs(settings))


class JobStages(Stages):
    """The stages of a job as one progress: shares of 1, by how much work each stage is."""

    def __init__(self, costs: list[float], progress: Progress, **others: object) -> None:
        self._costs, self._progress, self._next = costs, progress, 0
        super().__init__(self._open, **others)  # type: ignore[arg-type]

    def _open(self, name: str) -> Bar:
        index = min(self._next, len(self._costs) - 1)
        self._next += 1
        total = sum(self._costs)
        start, stop = (sum(self._costs[:n]) / total for n in (index, index + 1))
        return _Stretch(self._progress, start, stop)


class _Stretch(Bar):
    def __init__(self, progress: Progress, start: float, stop: float) -> None:
        self.progress, self.start, self.stop = progress, start, stop
        progress(start, 1)

    def __call__(self, done: float, total: int, preview: object = None) -> None:
        share = min(done / total, 1.0) if total else 1.0
        at = self.start + (self.stop - self.start) * share
        self.progress(at, 1, preview)  # type: ignore[arg-type]

    def close(self, *, finished: bool) -> None:
        if finished:
            self.progress(self.stop, 1)
