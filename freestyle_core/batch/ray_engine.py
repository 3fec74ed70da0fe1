"""Workers as actors of Ray: of this machine, or of a cluster that is there already.

Ray places the actors, a card or a share of processors each, starts a lost one again and gives it
its job once more. Results go to a folder that all machines share, or come back as bytes. Ray is an
optional package; nothing else in the program imports it. Read `RayEngine`.
"""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from .. import interrupts
from ..errors import Cancelled, FreeStyleError, InputError
from .engine import AGAIN, LOST, OUTCOME, READY, REFUSED, SHARE, Event
from .folder import DONE as DONE_FILE
from .folder import BatchFolder
from .jobs import Task
from .local import PICTURE_SECONDS
from .previews import as_png
from .worker import BUSY, DONE, FAILED, THERE, Outcome, Plan, Worker, one_line, returned

RETRIES = 2  # of a job whose worker is lost; Ray starts the worker again
MOST_RESTARTS = 1000  # of a worker: days of lost machines, but not a loop without end
END_SECONDS = 20.0  # that workers get to end by themselves
KNOCK_SECONDS = 10.0
WORDS = 200  # characters of what Ray says
LOOK_SECONDS = 1.0  # between two looks at how far jobs are, at least
LOOKS_PER_SECOND = 50  # at all workers together
MISSING = "--engine ray needs the package ray: pip install 'ray>=2.50'"


@dataclass(frozen=True)
class Share:
    """What one actor may use."""

    cpus: float = 1.0
    cards: float = 0.0


class RayEngine:
    """Actors of a cluster that hold the models."""

    def __init__(
        self,
        plan: Plan,
        *,
        workers: int | None = None,  # None: one for each card of the cluster, else its processors
        address: str | None = None,  # of a head node, or "auto"; None: this machine alone
        bytes_back: bool = False,  # results come back as bytes; no shared folder is needed
    ) -> None:
        self._plan, self._wanted, self._address = plan, workers, address
        self._bytes_back, self.workers = bytes_back, workers or 0
        self._folder = BatchFolder(plan.root)
        self._ray: Any = None
        self._actors: list[Any] = []
        self._awaited: dict[Any, tuple[int, str]] = {}  # of whom, and what
        self._tasks: dict[int, tuple[Task, ExitStack]] = {}  # of each worker, and the claim
        self._processes: dict[int, int] = {}
        self._said: list[Event] = []
        self._looked = 0.0

    def __enter__(self) -> RayEngine:
        self._ray = ray = ray_package()
        connect(ray, self._address)
        share, self.workers = shares(ray.cluster_resources(), self._wanted)
        actor = ray.remote(
            num_cpus=share.cpus,
            num_gpus=share.cards,
            max_restarts=MOST_RESTARTS,
            max_task_retries=RETRIES,
            max_concurrency=2,  # one thread works, the other one tells how far
            runtime_env={"env_vars": environment(share)},
        )(RayWorker)
        for worker in range(self.workers):
            self._actors.append(actor.remote(self._plan, share, self._bytes_back))
            self._await(worker, READY, self._actors[-1].ready.remote())
        return self

    def __exit__(self, *error: object) -> None:
        for _, claim in self._tasks.values():
            claim.close()
        with suppress(Exception):  # whatever is lost by now, the cluster is left
            ends = [actor.stop.remote() for actor in self._actors]
            self._ray.wait(ends, num_returns=len(ends), timeout=END_SECONDS)
        for actor in self._actors:
            with suppress(Exception):
                self._ray.kill(actor)
        with suppress(Exception):
            self._ray.shutdown()

    def give(self, worker: int, task: Task) -> None:
        """Give a job to an actor; where bytes come back, this process claims it."""
        claim, key = ExitStack(), task.job.key
        if self._bytes_back:
            mine = claim.enter_context(self._folder.claimed(key))
            if not mine or self._folder.is_done(key):
                claim.close()
                outcome = Outcome(key, THERE if mine else BUSY)
                self._said.append(Event(worker, OUTCOME, outcome))
                return
        self._tasks[worker] = task, claim
        self._await(worker, OUTCOME, self._actors[worker].work.remote(task))

    def events(self, seconds: float) -> list[Event]:
        """Return what has been reported, after waiting at most so long for a first report."""
        said, self._said = self._said, []
        if not said:
            ready, rest = self._ray.wait(list(self._awaited), num_returns=1, timeout=seconds)
            if ready and rest:  # all that is there at once: each look costs time
                ready += self._ray.wait(rest, num_returns=len(rest), timeout=0)[0]
            for reference in ready:
                said += self._taken(reference)
        self._ask()
        return said

    def _await(self, worker: int, kind: str, reference: Any) -> None:
        self._awaited[reference] = worker, kind

    def _ask(self) -> None:
        """Ask those who work how far they are."""
        now = time.monotonic()
        if now - self._looked < max(LOOK_SECONDS, self.workers / LOOKS_PER_SECOND):
            return
        self._looked = now
        asked = {worker for worker, kind in self._awaited.values() if kind == SHARE}
        for worker in set(self._tasks) - asked:
            self._await(worker, SHARE, self._actors[worker].share.remote())

    def _taken(self, reference: Any) -> list[Event]:
        worker, kind = self._awaited.pop(reference)
        try:
            value = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return self._given_up(worker, kind, " ".join(str(error).split())[:WORDS])
        if kind == READY:
            return [Event(worker, REFUSED, value) if value else Event(worker, READY)]
        if kind == SHARE:
            process, share, picture = value
            before = self._processes.get(worker, process)
            self._processes[worker] = process
            if worker not in self._tasks:
                return []
            if before != process:
                return [Event(worker, AGAIN, f"Ray has replaced process {before}")]
            return [Event(worker, SHARE, (share, picture))]
        task, claim = self._tasks.pop(worker)
        with claim:
            return [Event(worker, OUTCOME, self._kept(task, *value))]

    def _kept(self, task: Task, outcome: Outcome, files: Mapping[str, bytes]) -> Outcome:
        """Write what came back as bytes, and return the outcome."""
        if not self._bytes_back:
            return outcome
        if outcome.state == DONE:
            try:
                with self._folder.making(outcome.key) as work:
                    for name in sorted(files, key=lambda name: name == DONE_FILE):
                        (work / name).write_bytes(files[name])
                    self._folder.place(outcome.key, work)
                return outcome
            except FreeStyleError as error:
                outcome = replace(outcome, state=FAILED, reason=one_line(error))
        self._folder.failed(task.job, outcome.reason)
        return outcome

    def _given_up(self, worker: int, kind: str, why: str) -> list[Event]:
        """Return what is reported of something that Ray does not try again."""
        if kind == SHARE:
            return []
        self._await(worker, READY, self._actors[worker].ready.remote())
        if kind == READY:
            return [Event(worker, LOST, why)]
        task, claim = self._tasks.pop(worker)
        with claim:
            reason = f"{RETRIES + 1} workers ended on it ({why})"
            self._folder.failed(task.job, reason)
            return [Event(worker, OUTCOME, Outcome(task.job.key, FAILED, reason))]


class RayWorker:
    """What an actor is: a worker, and how far its job is."""

    def __init__(self, plan: Plan, share: Share, bytes_back: bool) -> None:
        torch.set_num_threads(max(1, int(share.cpus)))
        self._own = tempfile.TemporaryDirectory() if bytes_back else None
        self._share, self._pictured = 0.0, time.monotonic()
        self._picture: bytes | None = None
        self._stopped, self._working = False, threading.Lock()
        self._refused = ""
        try:
            self._worker = Worker(plan if self._own is None else plan.at(Path(self._own.name)))
        except Exception as error:
            self._refused = one_line(error)

    def ready(self) -> str:
        """Return why it cannot work; nothing when it can."""
        return self._refused

    def share(self) -> tuple[int, float, bytes | None]:
        """Return its process, how much of its job is done, 0 to 1, and a new picture as PNG."""
        picture, self._picture = self._picture, None
        return os.getpid(), self._share, picture

    def work(self, task: Task) -> tuple[Outcome, Mapping[str, bytes]]:
        """Make a job, and return its files where they are not kept in a shared folder."""
        with self._working:
            self._share = 0.0
            if self._own is not None:
                return returned(self._worker, task, self._note)
            return self._worker.work(task, self._note), {}

    def stop(self) -> None:
        """Return when the job that is under way has ended, at its next step."""
        self._stopped = True
        with self._working:
            if self._own is not None:
                self._own.cleanup()

    def _note(self, done: float, total: int, preview: Tensor | None = None) -> None:
        if self._stopped:
            raise Cancelled("the run was stopped")
        self._share, now = done / total, time.monotonic()
        if preview is not None and now - self._pictured >= PICTURE_SECONDS:
            self._pictured, self._picture = now, as_png(preview)


def ray_package() -> ModuleType:
    """Return Ray; raises InputError where it is not installed."""
    try:
        import ray
    except ImportError:
        raise InputError(MISSING) from None
    return ray


def connect(ray: Any, address: str | None) -> None:
    """Join a cluster, or start one of this machine alone, its only user."""
    interrupts.check()
    if address is not None and ":" in address:
        knock(address)
    try:
        if address is None:
            ray.init("local", include_dashboard=False, log_to_driver=False, configure_logging=False)
        else:
            ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"cannot join Ray at {address or 'this machine'}: {' '.join(str(error).split())[:200]}"
        ) from None


def knock(address: str) -> None:
    """Raise InputError unless somebody listens at HOST:PORT; Ray itself would try for minutes."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_SECONDS):
            pass
    except (OSError, ValueError) as error:
        raise InputError(
            f"nobody answers at {address} ({error}); start a head node there: ray start --head"
        ) from None


def shares(resources: Mapping[str, float], workers: int | None) -> tuple[Share, int]:
    """Return what each actor gets of a cluster, and how many there are.

    One card each where there are cards, else one processor each; more workers than these share
    them in equal parts.
    """
    cards, cpus = int(resources.get("GPU", 0)), max(1, int(resources.get("CPU", 1)))
    if cards:
        count = workers or cards
        return Share(min(1.0, cpus / count), min(1.0, cards / count)), count
    count = workers or cpus
    return Share(float(max(1, cpus // count)) if count <= cpus else cpus / count), count


def environment(share: Share) -> dict[str, str]:
    """Return what an actor's process has to find: where this program lies, and its threads."""
    home = str(Path(__file__).resolve().parents[2])
    known = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        "PYTHONPATH": os.pathsep.join(known),
        "OMP_NUM_THREADS": str(max(1, int(share.cpus))),
    }
