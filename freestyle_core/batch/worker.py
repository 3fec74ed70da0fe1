"""A worker: it holds the models and makes one job after another, whatever engine runs it.

Read `Worker.work`: it never raises for a job that fails, so that the rest of a batch goes on.
"""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from .. import interrupts
from ..errors import Cancelled, FreeStyleError, MismatchError, is_out_of_memory
from ..files.leftovers import clear_leftovers
from ..files.record import sha256
from ..files.style_pack import load_style_pack
from ..heap import trim
from ..method.sample import sample_portrait
from ..pipeline import ModelPaths, Models, PortraitRun, load_models, make_portrait
from ..progress import Progress, Stages
from ..restyle import RestyledRun, restyle
from ..types import Portrait
from .cost import PHOTO, JobStages, pack_costs, stage_costs
from .folder import BatchFolder, described
from .jobs import Job, PackOf, Task
from .photos import PhotoHeads
from .shared import RememberingEditor, SharedSteps

DONE, FAILED, BUSY, THERE = "done", "failed", "busy", "there"  # how a job can end

# writes the files of a run into a folder and returns their names
Made = PortraitRun | RestyledRun
Write = Callable[[Path, Made, Models, dict[str, float], str], Sequence[str]]
Choose = Callable[[], tuple[torch.device, torch.dtype]]


@dataclass(frozen=True)
class Plan:
    """All that a worker needs to know, in any process; its functions are those of modules."""

    root: Path
    paths: ModelPaths
    device: Callable[[], tuple[torch.device, torch.dtype]]  # and the editor's number format
    write: Write
    begun: float  # time of the run's start: what failed since then is not tried again

    def at(self, root: Path) -> Plan:
        """Return the plan for results in another folder."""
        return replace(self, root=root)


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    key: str
    state: str  # DONE, FAILED, BUSY (somebody else makes it), THERE (it was finished before)
    reason: str = ""  # of FAILED, one line
    seconds: float = 0.0
    processor_seconds: float = 0.0
    shared: tuple[tuple[str, int], ...] = ()  # views and edits taken from other jobs


class Worker:
    """The models, loaded once, and the folder that results go to."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.folder = plan, BatchFolder(plan.root)
        self.device, dtype = plan.device()
        models = load_models(plan.paths, self.device, dtype)
        self.models = replace(models, editor=RememberingEditor.of(models.editor))
        self.photos = PhotoHeads(self.models)
        clear_leftovers(self.folder.jobs)

    def work(self, task: Task, progress: Progress) -> Outcome:
        """Make a job unless it is there, or another process makes it.

        What `progress` raises to stop the run is passed on; every other failure is recorded.
        """
        job, folder = task.job, self.folder
        try:
            if folder.is_done(job.key):
                return Outcome(job.key, THERE)
            with folder.claimed(job.key) as mine:
                if not mine:
                    return Outcome(job.key, BUSY)
                if folder.is_done(job.key):
                    return Outcome(job.key, THERE)
                before = folder.failure(job.key)
                if before is not None and before.get("time", 0) > self.plan.begun:
                    return Outcome(job.key, FAILED, str(before.get("reason")))
                return self._make(task, progress)
        except (Cancelled, KeyboardInterrupt):
            raise
        except Exception as error:  # a job that fails must not end the others
            if interrupts.received() is not None:  # a library made another error of a signal
                raise
            reason = one_line(error)
            folder.failed(job, reason)
            return Outcome(job.key, FAILED, reason)
        finally:
            trim()

    def _make(self, task: Task, progress: Progress) -> Outcome:
        begun, used = time.monotonic(), time.process_time()
        job = task.job
        steps = SharedSteps(task, self.folder.shared, self.folder.lock)
        costs = stage_costs(job.settings) if job.pack is None else pack_costs(job.settings)
        costs = costs if job.photo is None else [PHOTO, *costs]
        stages = JobStages(costs, progress, at_end=trim)
        with self.folder.making(job.key) as work:
            settings, start = job.settings, None
            if job.photo is not None:
                with stages.stage("a portrait of the photo") as part:
                    start, front = self.photos.head(job.photo, settings.seed, part)
                settings = replace(settings, front=front)
            made: Made
            if job.pack is None:
                made = make_portrait(
                    self.models,
                    settings,
                    stages=stages,
                    edit=steps.edit,
                    render=steps.render,
                    start=start,
                )
            else:
                made = self._restyled(job, job.pack, start, stages)
            with stages.stage("save"):
                files = self.plan.write(work, made, self.models, stages.times, str(self.device))
            seconds, processor = time.monotonic() - begun, time.process_time() - used
            interrupts.check()
            record = {
                **described(job),
                "files": sorted(files),
                "seconds": round(seconds, 2),
                "processor_seconds": round(processor, 2),
                "stages": {name: round(value, 2) for name, value in stages.times.items()},
                "shared": steps.taken,
                "machine": platform.node(),
                "process": os.getpid(),
                "time": time.time(),
            }
            self.folder.finish(job.key, work, record)
        shared = tuple(steps.taken.items())
        return Outcome(job.key, DONE, "", seconds, processor, shared)

    def _restyled(
        self, job: Job, given: PackOf, start: Portrait | None, stages: Stages
    ) -> RestyledRun:
        if sha256(Path(given.file)) != given.sha256:
            raise MismatchError(
                f"the style pack {given.file} is another one than when the batch began; start the "
                "batch again"
            )
        pack = load_style_pack(given.file)
        pack.network.to(self.device)
        settings = job.settings
        if start is None:
            start = sample_portrait(self.models.eg3d, settings.seed, psi=settings.psi)
        return restyle(pack, start, settings, strength=given.strength, stages=stages)


def one_line(error: BaseException) -> str:
    """Return why something failed, in one line."""
    if is_out_of_memory(error) or isinstance(error, MemoryError):
        return "out of memory; use fewer workers, or a preset with fewer views"
    text = " ".join(str(error).split()) or "no reason given"
    return text if isinstance(error, FreeStyleError) else f"{type(error).__name__}: {text}"


def returned(worker: Worker, task: Task, progress: Progress) -> tuple[Outcome, dict[str, Any]]:
    """Make a job in the worker's own folder; return its files as bytes and keep none of them."""
    outcome = worker.work(task, progress)
    place = worker.folder.job(task.job.key)
    files = {}
    if outcome.state in (DONE, THERE):
        files = {file.name: file.read_bytes() for file in sorted(place.iterdir())}
        outcome = replace(outcome, state=DONE)
    shutil.rmtree(place, ignore_errors=True)
    return outcome, files
