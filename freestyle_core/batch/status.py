"""How far a batch is, seen from outside: what lies in its folder, and what its runs say."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

from .folder import BatchFolder

SILENT_SECONDS = 60.0  # a run that has said nothing for so long is not going on any more


@dataclass(frozen=True)
class Status:
    """What `status` tells."""

    jobs: int
    finished: int
    failed: list[dict[str, Any]] = field(default_factory=list)  # key, name and reason
    runs: list[dict[str, Any]] = field(default_factory=list)  # those that are going on

    @property
    def seconds_left(self) -> float | None:
        """Return the seconds until the first of its runs expects to end, None: nobody can tell."""
        known = [run["seconds_left"] for run in self.runs if run.get("seconds_left") is not None]
        return min(known, default=None)


def status_of(folder: BatchFolder) -> Status:
    """Return how far a batch is; raises InputError for a folder of something else."""
    jobs = folder.plan()["jobs"]
    finished = {job["key"] for job in jobs} & set(folder.finished())
    failed, tried = [], folder.failures() - finished
    for job in jobs:
        record = folder.failure(job["key"]) if job["key"] in tried else None
        if record is not None:
            told = {"key": job["key"], "name": job["name"], "reason": record.get("reason")}
            failed.append(told)
    return Status(len(jobs), len(finished), failed, _runs(folder))


def _runs(folder: BatchFolder) -> list[dict[str, Any]]:
    found = []
    for path in sorted((folder.root / "runs").glob("[!.]*.json")):
        try:
            run = json.loads(path.read_text(encoding="utf-8"))
            silent = time.time() - float(run["time"])
        except (OSError, ValueError, KeyError, TypeError):  # it is just ending
            continue
        if silent < SILENT_SECONDS:
            found.append(run)
    return found
