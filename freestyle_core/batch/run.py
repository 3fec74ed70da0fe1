"""A batch from its jobs to its last result: which worker makes which job, and what is told of it.

Read `Run.run`. An engine holds the workers; jobs of other runs on the same folder are left to
them, and taken over when they end without a result.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import interrupts
from ..errors import FreeStyleError, WriteError
from .engine import AGAIN, LOST, OUTCOME, READY, REFUSED, SHARE, Engine, Event
from .folder import BatchFolder
from .jobs import Task
from .journal import Journal
from .pace import Pace
from .worker import BUSY, DONE, FAILED, THERE, Outcome

LOOK_SECONDS = 0.5  # between two looks at what workers report
AGAIN_SECONDS = 3.0  # between two looks at jobs of other runs
MOST_LOSSES = 3  # of workers on one job, or of one worker before it is ready

Tell = Callable[[dict[str, Any]], None]


@dataclass
class Report:
    """What has become of a batch."""

    jobs: int
    there: int = 0  # finished before this run
    made: int = 0
    elsewhere: int = 0  # made meanwhile by another run
    seconds: float = 0.0
    work_seconds: float = 0.0  # of all workers together
    processor_seconds: float = 0.0
    shared: dict[str, int] = field(default_factory=dict)  # views and edits not made anew
    failed: list[tuple[Task, str]] = field(default_factory=list)

    @property
    def finished(self) -> int:
        """Return how many jobs are done, whoever made them."""
        return self.there + self.made + self.elsewhere


class Run:
    """One run over the jobs of a folder."""

    def __init__(
        self, tasks: Sequence[Task], folder: BatchFolder, engine: Engine, tell: Tell
    ) -> None:
        self.folder, self.engine, self.tell = folder, engine, tell
        self.report = Report(len(tasks))
        self._waiting: deque[Task] = deque()
        for task in tasks:
            if folder.is_done(task.job.key):
                self.report.there += 1
            else:
                self._waiting.append(task)
        self._elsewhere: list[Task] = []
        self._looked = 0.0
        self._idle: set[int] = set()
        self._working: dict[int, Task] = {}
        self._losses: dict[str, int] = {}
        self._unready: dict[int, int] = {}
        self.pace = Pace([task.job for task in self._waiting])
        self._journal = Journal(folder, self.pace, self.report)

    def run(self) -> Report:
        """Make all jobs that are not there; raises FreeStyleError when no worker can work."""
        begun = time.monotonic()
        self.tell({"event": "start", "jobs": self.report.jobs, "there": self.report.there})
        with self._journal:
            if self._waiting:
                with self.engine:
                    self._unready = dict.fromkeys(range(self.engine.workers), 0)
                    while self._waiting or self._working or self._elsewhere:
                        self._step()
            self.report.seconds = time.monotonic() - begun
        return self.report

    def _step(self) -> None:
        interrupts.check()
        self._look_elsewhere()
        while self._idle and self._waiting:
            worker, task = self._idle.pop(), self._waiting.popleft()
            self._working[worker] = task
            self.engine.give(worker, task)
        for event in self.engine.events(LOOK_SECONDS):
            self._take(event)
        self._journal.note(list(self._working.values()))
        if self.pace.changed():
            self.tell({"event": "progress", **self.pace.said(self.report)})

    def _take(self, event: Event) -> None:
        worker = event.worker
        if event.kind == READY:
            self.pace.start()
            self._unready.pop(worker, None)
            self._idle.add(worker)
        elif event.kind == SHARE:
            share, picture = event.value
            if worker in self._working:
                self.pace.share(self._working[worker].job.key, share)
                self._journal.picture(self._working[worker].job.key, picture)
        elif event.kind == OUTCOME:
            task = self._working.pop(worker)
            self._idle.add(worker)
            self._ended(task, event.value)
        elif event.kind == AGAIN:
            self.tell({"event": "lost", "worker": worker, "why": event.value})
        elif event.kind == LOST:
            self._lose(worker, event.value)
        elif event.kind == REFUSED:
            raise FreeStyleError(f"a worker cannot start: {event.value}")

    def _ended(self, task: Task, outcome: Outcome) -> None:
        if outcome.state == BUSY:
            self._elsewhere.append(task)
            self.pace.share(task.job.key, 0.0)
            return
        report = self.report
        if outcome.state == DONE:
            report.made += 1
            report.work_seconds += outcome.seconds
            report.processor_seconds += outcome.processor_seconds
            for name, count in outcome.shared:
                report.shared[name] = report.shared.get(name, 0) + count
            self._journal.finished(task.job.key)
        elif outcome.state == THERE:
            report.elsewhere += 1
        else:
            report.failed.append((task, outcome.reason))
        self.pace.finish(task.job.key)
        self._tell_job(task, outcome)

    def _tell_job(self, task: Task, outcome: Outcome) -> None:
        said = {"event": "job", "key": task.job.key, "name": task.job.name, "state": outcome.state}
        if outcome.reason:
            said["reason"] = outcome.reason
        if outcome.state == DONE:
            said["seconds"] = f"{outcome.seconds:.1f}"
        self.tell(said)

    def _lose(self, worker: int, why: str) -> None:
        task = self._working.pop(worker, None)
        self._idle.discard(worker)
        self.tell({"event": "lost", "worker": worker, "why": why})
        if task is None:
            self._unready[worker] = self._unready.get(worker, 0) + 1
            if self._unready[worker] >= MOST_LOSSES:
                raise FreeStyleError(
                    f"worker {worker + 1} ended {MOST_LOSSES} times while it loaded the models "
                    f"({why}); is there memory for so many workers?"
                )
            return
        self._unready.setdefault(worker, 0)
        key = task.job.key
        self._losses[key] = self._losses.get(key, 0) + 1
        self.pace.share(key, 0.0)
        if self._losses[key] < MOST_LOSSES:
            self._waiting.appendleft(task)
            return
        reason = f"{MOST_LOSSES} workers ended on it ({why}); was memory short?"
        self.folder.failed(task.job, reason)
        self._ended(task, Outcome(key, FAILED, reason))

    def _look_elsewhere(self) -> None:
        """Take note of what other runs have finished, and take over what they have left."""
        now = time.monotonic()
        if not self._elsewhere or now - self._looked < AGAIN_SECONDS:
            return
        self._looked = now
        left, self._elsewhere = self._elsewhere, []
        for task in left:
            key = task.job.key
            if self.folder.is_done(key):
                self._ended(task, Outcome(key, THERE))
                continue
            try:
                with self.folder.claimed(key) as mine:
                    free = mine
            except (OSError, WriteError):
                free = True  # the worker that gets it will say what is wrong
            (self._waiting if free else self._elsewhere).append(task)
