"""The folder of a batch: what is finished, what failed, and who works on what.

    DIR/jobs/<key>/          everything a job made; appears whole, with done.json in it
    DIR/failed/<key>.json    why a job failed, until it succeeds
    DIR/shared/              views of heads and edits that several jobs use
    DIR/locks/               claims; several runs may work on one folder
    DIR/runs/<name>.json     what a run that is going on says of itself
    DIR/jobs.json            the jobs of the last job file
    DIR/index.html, live.png

Read `BatchFolder.making`.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import interrupts
from ..errors import FileFormatError, InputError, WriteError
from ..files.bundle import write_atomically
from ..files.claims import claimed
from ..files.leftovers import clear_leftovers, unfinished
from .jobs import Job

DONE = "done.json"  # in the folder of a finished job; the last file that is written
PLAN = "jobs.json"
NEEDED_MB = 40.0  # free on the disk before a job begins


@dataclass(frozen=True)
class BatchFolder:
    """Where the results of a batch are kept. Everything said of a job names it by its key."""

    root: Path

    @property
    def jobs(self) -> Path:
        """Return the folder of finished jobs."""
        return self.root / "jobs"

    @property
    def shared(self) -> Path:
        """Return the folder of what several jobs use."""
        return self.root / "shared"

    def job(self, key: str) -> Path:
        """Return the folder of a job."""
        return self.jobs / key

    def lock(self, name: str) -> Path:
        """Return the file of a claim."""
        return self.root / "locks" / f"{name}.lock"

    def prepare(self) -> None:
        """Make the folder and tidy up after killed runs; raises InputError where that fails."""
        try:
            self.jobs.mkdir(parents=True, exist_ok=True)
            probe = self.jobs / f".probe-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise InputError(
                f"cannot write into {self.root}: {error.strerror or error}; choose another --out"
            ) from error
        clear_leftovers(self.jobs)

    def is_done(self, key: str) -> bool:
        """Return whether a job is finished."""
        return (self.job(key) / DONE).is_file()

    def done(self, key: str) -> dict[str, Any] | None:
        """Return what a finished job says of itself."""
        return _read(self.job(key) / DONE)

    def finished(self, known: Container[str] = ()) -> list[str]:
        """Return the keys of all finished jobs, also of other job files.

        Those that are `known` to be finished are not looked at again: on a disk far away that is
        what takes time.
        """
        names = _names(self.jobs)
        return [name for name in names if name in known or self.is_done(name)]

    def failures(self) -> set[str]:
        """Return the keys of the jobs that failed when they were last tried."""
        return {Path(name).stem for name in _names(self.root / "failed")}

    @contextmanager
    def claimed(self, key: str) -> Iterator[bool]:
        """Yield whether this process may make a job; the claim of a finished job leaves no file."""
        path = self.lock(key)
        with claimed(path) as mine:
            yield mine
            if mine and self.is_done(key):
                with suppress(OSError):
                    path.unlink()

    @contextmanager
    def making(self, key: str) -> Iterator[Path]:
        """Yield a hidden folder to fill; with `finish` it becomes that of the job, else it goes.

        Raises WriteError at once when the disk is nearly full.
        """
        try:
            self.jobs.mkdir(parents=True, exist_ok=True)
            free_mb = shutil.disk_usage(self.jobs).free / 2**20
            if free_mb < NEEDED_MB:
                raise WriteError(
                    f"the disk of {self.root} has {free_mb:.0f} MB free, a job needs about "
                    f"{NEEDED_MB:.0f} MB; free some space"
                )
            with unfinished(self.jobs) as work:
                work.mkdir()
                try:
                    yield work
                except WriteError as error:  # of a file, not of the hidden folder it is in
                    raise WriteError(str(error).replace(f"{work}{os.sep}", "")) from error
        except OSError as error:
            raise WriteError(
                f"cannot write into {self.root}: {error.strerror or error}; free some space, or "
                "allow to write there"
            ) from error

    def finish(self, key: str, work: Path, done: Mapping[str, Any]) -> None:
        """Make the filled folder that of a job; `done` is its last file."""
        write_json(work / DONE, done)
        self.place(key, work)

    def place(self, key: str, work: Path) -> None:
        """Make a folder that has its done.json that of a job."""
        target = self.job(key)
        with interrupts.held():
            if target.exists():  # without done.json: somebody has been there
                shutil.rmtree(target, ignore_errors=True)
            os.replace(work, target)
            self._failure(key).unlink(missing_ok=True)

    def failed(self, job: Job, reason: str) -> None:
        """Keep why a job failed, where that can be written."""
        said = {"reason": reason, "name": job.name, "entry": job.entry, "time": time.time()}
        with suppress(FileFormatError):
            write_json(self._failure(job.key), said)

    def failure(self, key: str) -> dict[str, Any] | None:
        """Return why a job failed when it was last tried, None where it did not."""
        return _read(self._failure(key))

    def keep_plan(self, jobs: list[Job], about: Mapping[str, Any]) -> None:
        """Keep what is to be made, for `status` and the page of results."""
        listed = [
            {"key": job.key, "name": job.name, "entry": job.entry, "preset": job.preset}
            for job in jobs
        ]
        write_json(self.root / PLAN, {**about, "jobs": listed})

    def plan(self) -> dict[str, Any]:
        """Return what `keep_plan` kept; raises InputError where there is nothing."""
        plan = _read(self.root / PLAN)
        if plan is None or not isinstance(plan.get("jobs"), list):
            raise InputError(f"{self.root} is no folder of a batch: it has no {PLAN}")
        return plan

    def _failure(self, key: str) -> Path:
        return self.root / "failed" / f"{key}.json"


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a record; raises WriteError."""
    with write_atomically(path) as part:
        part.write_text(json.dumps(dict(values), indent=1, default=str) + "\n", encoding="utf-8")


def described(job: Job) -> dict[str, Any]:
    """Return what records say of a job."""
    said = {
        "key": job.key,
        "name": job.name,
        "entry": job.entry,
        "preset": job.preset,
        "prompts": list(job.settings.prompts),
        "seed": job.settings.seed,
        "settings": asdict(job.settings),
    }
    extra = {"pack": job.pack, "photo": job.photo}
    return {**said, **{name: asdict(of) for name, of in extra.items() if of is not None}}


def _names(folder: Path) -> list[str]:
    """Return the names in a folder but hidden ones."""
    with suppress(OSError):
        return sorted(entry.name for entry in os.scandir(folder) if entry.name[0] != ".")
    return []


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
