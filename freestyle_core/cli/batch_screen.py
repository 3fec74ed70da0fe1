"""What `batch` shows: one bar for all jobs, or JSON lines for a machine, and a table at the end."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

from ..batch.jobs import Task
from ..batch.run import Report
from ..batch.status import Status
from ..batch.worker import DONE, FAILED
from ..progress import clock
from .console import bar_line, say

MOST_ROWS = 30  # of the table and of failed jobs
LOG_SECONDS = 60.0  # between two lines of progress where no bar can be drawn


class JsonLines:
    """Writes every event as a line."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout

    def __call__(self, event: dict[str, Any]) -> None:
        self.stream.write(json.dumps({**event, "time": round(time.time(), 1)}) + "\n")
        self.stream.flush()


class Screen:
    """One bar for all jobs on a terminal; in a log a line for each job, and for each minute."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.width, self.logged = 0, time.monotonic()

    def __call__(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "start":
            there = f", {event['there']} of them finished before" if event["there"] else ""
            self._line(f"{event['jobs']} jobs{there}")
        elif kind == "progress":
            self._progress(event)
        elif kind == "job":
            self._line(job_line(event))
        elif kind == "lost":
            self._line(f"worker {event['worker'] + 1} is started again: {event['why']}")

    def close(self) -> None:
        """End the bar's line."""
        if self.live and self.width:
            self.stream.write("\n")

    def _progress(self, event: dict[str, Any]) -> None:
        text = progress_line(event)
        if self.live:
            self.stream.write("\r" + text.ljust(self.width))
            self.stream.flush()
            self.width = len(text)
        elif time.monotonic() - self.logged >= LOG_SECONDS:
            self._line(text)

    def _line(self, text: str) -> None:
        lead = "\r" if self.live else ""
        self.stream.write(lead + text.ljust(self.width) + "\n")
        self.stream.flush()
        self.width, self.logged = 0, time.monotonic()


def progress_line(event: dict[str, Any]) -> str:
    """Return the bar of a progress event."""
    said = [f"{event['jobs_per_hour']:.0f} jobs/h"] if event["jobs_per_hour"] is not None else []
    said += [f"{event['failed']} failed"] if event["failed"] else []
    name = f"{event['finished']}/{event['jobs']} jobs"
    left = event["seconds_left"]
    return bar_line(name, event["share"], 1, left, doing=", ".join(said))


def job_line(event: dict[str, Any]) -> str:
    """Return the line of a job that has ended."""
    if event["state"] == DONE:
        return f"{event['name']}: {event['seconds']} s, jobs/{event['key']}"
    if event["state"] == FAILED:
        return f"{event['name']}: failed: {event['reason']}"
    return f"{event['name']}: made by another run"


def summary(report: Report, tasks: Sequence[Task], done: set[str]) -> str:
    """Return the table at the end: a row for each entry of the job file, then all together."""
    failed = {task.job.key for task, _ in report.failed}
    entries: dict[str, list[str]] = {}
    for task in tasks:
        entries.setdefault(task.job.entry, []).append(task.job.key)
    rows: list[tuple[str, ...]] = [("entry", "jobs", "done", "failed")]
    for entry, keys in entries.items():
        counts = len(keys), sum(k in done for k in keys), sum(k in failed for k in keys)
        rows.append((entry, *map(str, counts)))
    rest = len(rows) - 1 - MOST_ROWS
    rows = rows[: 1 + MOST_ROWS]
    if len(entries) > 1:
        rows.append(("together", str(report.jobs), str(report.finished), str(len(report.failed))))
    wide = max(len(row[0]) for row in rows)
    lines = [f"{row[0]:<{wide}}" + "".join(f"{field:>8}" for field in row[1:]) for row in rows]
    if rest > 0:
        lines.insert(1 + MOST_ROWS, f"... and {rest} more entries")
    for task, reason in report.failed[:MOST_ROWS]:
        lines.append(f"{task.job.name} ({task.job.entry}) failed: {reason}")
    return "\n".join([*lines, pace_line(report)])


def pace_line(report: Report) -> str:
    """Return how long everything took."""
    said = [f"{report.made} made in {clock(report.seconds)}"]
    if report.made and report.seconds:
        said.append(f"{3600 * report.made / report.seconds:.0f} jobs/h")
        said.append(f"{report.processor_seconds / report.made:.1f} processor seconds each")
    said += [f"{count} {name} shared" for name, count in report.shared.items() if count]
    return ", ".join(said)


def say_status(status: Status) -> None:
    """Say how far a batch is."""
    rest = status.jobs - status.finished - len(status.failed)
    say(f"{status.finished} of {status.jobs} done, {len(status.failed)} failed, {rest} to make")
    for run in status.runs:
        line = progress_line(run)
        say(f"{run['machine']}, process {run['process']}: {line}")
        for name in run["working"]:
            say(f"  {name}")
    if not status.runs and rest:
        say("nobody is working on it; the same batch command goes on")
    for failure in status.failed[:MOST_ROWS]:
        say(f"{failure['name']} failed: {failure['reason']}")
