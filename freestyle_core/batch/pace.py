"""How much of a batch is done, how fast it goes, and how long it will still take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .cost import job_cost
from .jobs import Job

if TYPE_CHECKING:
    from .run import Report

TOLD_SECONDS = 0.5  # at least, between two reports of progress
EARLY_SECONDS = 5.0  # of work, before which nobody guesses


class Pace:
    """The work of a run, job by job, weighted by what each costs. Times are of a steady clock."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._costs = {
            job.key: job_cost(job.settings, by_pack=job.pack is not None) for job in jobs
        }
        self._shares = dict.fromkeys(self._costs, 0.0)
        self._finished: set[str] = set()
        self._begun: float | None = None
        self._told, self._changed = -TOLD_SECONDS, True

    def start(self) -> None:
        """Take note that the first worker is ready; loading models is no measure of jobs."""
        if self._begun is None:
            self._begun = time.monotonic()

    def share(self, key: str, share: float) -> None:
        """Take note of how much of a job is done, 0 to 1."""
        self._shares[key], self._changed = share, True

    def finish(self, key: str) -> None:
        """Take note that a job has ended, well or not."""
        self.share(key, 1.0)
        self._finished.add(key)

    def changed(self) -> bool:
        """Return whether there is news, and the last was told long enough ago."""
        now = time.monotonic()
        if not self._changed or now - self._told < TOLD_SECONDS:
            return False
        self._told, self._changed = now, False
        return True

    @property
    def done(self) -> float:
        """Return the share of this run's work that is done, 0 to 1."""
        total = sum(self._costs.values())
        made = sum(self._costs[key] * share for key, share in self._shares.items())
        return made / total if total else 1.0

    @property
    def elapsed(self) -> float:
        """Return the seconds since the first worker was ready."""
        return 0.0 if self._begun is None else time.monotonic() - self._begun

    @property
    def left(self) -> float | None:
        """Return the seconds that are left at this pace, None where nobody can tell."""
        done = self.done
        if self.elapsed < EARLY_SECONDS or done <= 0:
            return None
        return self.elapsed * (1 - done) / done

    @property
    def per_hour(self) -> float | None:
        """Return the jobs of an hour at this pace, None where nobody can tell."""
        if self.elapsed < EARLY_SECONDS or not self._costs:
            return None
        return 3600 * len(self._costs) * self.done / self.elapsed

    def said(self, report: Report) -> dict[str, Any]:
        """Return what is told of the whole batch."""
        left, per_hour = self.left, self.per_hour
        return {
            "jobs": report.jobs,
            "finished": report.finished,
            "failed": len(report.failed),
            "share": round(self._of_all(report), 4),
            "seconds_left": None if left is None else round(left),
            "jobs_per_hour": None if per_hour is None else round(per_hour, 1),
        }

    def _of_all(self, report: Report) -> float:
        """Return the share of all jobs, those of earlier runs too."""
        own = len(self._costs)
        return (report.jobs - own + own * self.done) / report.jobs if report.jobs else 1.0
