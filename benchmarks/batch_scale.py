"""Where 10, 100 and 1000 workers of a batch would stall.

    python benchmarks/batch_scale.py record DIR       stage times and sizes of a real batch
    python benchmarks/batch_scale.py measure          what the main process costs, on this machine
    python benchmarks/batch_scale.py simulate         the table of docs/scale.md

A simulation of events: workers make jobs of recorded stages, heads in their order; the main
process and the shared disk are queues that serve one after another; workers are lost at random.
What a number is of stands in `RECORDED`, measured by the first two commands.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import random
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from freestyle_core.batch.engine import OUTCOME, READY, SHARE, Event
from freestyle_core.batch.folder import BatchFolder, described
from freestyle_core.batch.job_file import Entry
from freestyle_core.batch.jobs import make_jobs, tasks_of
from freestyle_core.batch.page import Page
from freestyle_core.batch.run import Run
from freestyle_core.batch.worker import DONE, Outcome

PARTS = ("useful", "load", "head", "disk", "main", "lost", "idle")
OWN_DISK_MB = 2000.0  # per second, of a machine's own disk
Steps = Iterator[tuple[str, Any]]
MODELS = {"eg3d": "e", "editor": "d", "perceptual": "p"}


@dataclass(frozen=True)
class Site:
    """What a simulated batch runs on, and what its jobs are. Seconds and megabytes."""

    render: float  # views of the unstyled head
    work: float  # all else that a job computes
    save: float
    result_mb: float  # of a job
    files: int
    views_mb: float  # of a head, read by the jobs that share them
    models_mb: float
    load: float  # of the models, computing alone
    hand_out: float  # the main process, for a job from its start to its end
    report: float  # the main process, for a report of progress
    reports: float = 2.0  # of a worker, per second
    most_reports: float = 1e9  # of all workers together, per second
    disk_mb: float = 1000.0  # per second, of the disk that all share
    file: float = 0.002  # for a file to be made on it
    lost: float = 0.0  # workers per worker and hour
    share: bool = True  # views of a head, through the disk
    copies: bool = False  # every machine has the models on a disk of its own


@dataclass
class Outcomes:
    """Where the time of all workers went, in worker seconds."""

    makespan: float = 0.0
    useful: float = 0.0
    load: float = 0.0
    head: float = 0.0  # waiting for views that another one renders
    disk: float = 0.0
    main: float = 0.0
    lost: float = 0.0
    idle: float = 0.0  # nothing left to do

    def share(self, name: str, workers: int) -> float:
        """Return a part of all time."""
        return getattr(self, name) / (workers * self.makespan)


class Queue:
    """Serves one after another, in the order of coming."""

    def __init__(self) -> None:
        self.free = 0.0

    def serve(self, now: float, seconds: float) -> float:
        """Return when something that comes now is finished."""
        self.free = max(now, self.free) + seconds
        return self.free


class Simulation:
    """A batch of styles x heads: each worker is a generator of what it does next."""

    def __init__(self, site: Site, workers: int, styles: int, heads: int, seed: int = 0) -> None:
        self.site, self.found, self.chance = site, Outcomes(), random.Random(seed)
        self.disk, self.main, self.now = Queue(), Queue(), 0.0
        # reports take their share of the main process before any job does
        busy = min(workers * site.reports, site.most_reports) * site.report
        self.hand_out = site.hand_out / max(1 - busy, 1e-3)
        self.jobs = deque(head for head in range(heads) for _ in range(styles))
        self.heads: dict[int, list[Steps] | None] = {}  # who waits for it; None: it is there
        self.events: list[tuple[float, int, Steps]] = []
        self.count = itertools.count()
        self.workers = [self.worker() for _ in range(workers)]

    def run(self) -> Outcomes:
        """Return where the time went."""
        for worker in self.workers:
            self.later(0.0, worker)
        ends = []
        while self.events:
            self.now, _, worker = heapq.heappop(self.events)
            try:
                kind, amount = next(worker)
            except StopIteration:
                ends.append(self.now)
                continue
            if kind == "head":
                waiting = self.heads[amount]
                if waiting is None:
                    self.later(self.now, worker)
                else:
                    waiting.append(worker)
                continue
            queue = {"disk": self.disk, "main": self.main}.get(kind)
            end = self.now + amount if queue is None else queue.serve(self.now, amount)
            self.later(end, worker)
        self.found.makespan = max(ends)
        self.found.idle = sum(self.found.makespan - end for end in ends)
        return self.found

    def later(self, when: float, worker: Steps) -> None:
        """Go on with a worker at a time."""
        heapq.heappush(self.events, (when, next(self.count), worker))

    def worker(self) -> Steps:
        """Make jobs until there are none; yields what takes time: (kind, seconds or head)."""
        site, found = self.site, self.found
        yield from self.loading("load")
        while self.jobs:
            head, begun = self.jobs.popleft(), self.now
            yield "main", self.hand_out
            found.main += self.now - begun
            first = not site.share or head not in self.heads
            compute = site.work + site.save + (site.render if first else 0)
            lost_at = self.chance.expovariate(site.lost / 3600) if site.lost else float("inf")
            if lost_at < compute:
                yield "sleep", lost_at
                self.jobs.appendleft(head)
                found.lost += lost_at
                yield from self.loading("lost")
                continue
            yield from self.views(head)
            yield "sleep", site.work + site.save
            found.useful += site.work + site.save
            before = self.now
            yield "disk", site.result_mb / site.disk_mb
            yield "sleep", site.files * site.file
            found.disk += self.now - before

    def loading(self, what: str) -> Steps:
        """Load the models, from the disk of all or of the machine."""
        begun, reading = self.now, self.site.models_mb / self.site.disk_mb
        own = self.site.models_mb / OWN_DISK_MB
        yield ("sleep", own) if self.site.copies else ("disk", reading)
        yield "sleep", self.site.load
        setattr(self.found, what, getattr(self.found, what) + self.now - begun)

    def views(self, head: int) -> Steps:
        """Render the views of a head, or take them from whoever does."""
        site, moving = self.site, self.site.views_mb / self.site.disk_mb
        if not site.share:
            yield "sleep", site.render
            self.found.useful += site.render
            return
        if head not in self.heads:
            self.heads[head] = []
            yield "sleep", site.render
            self.found.useful += site.render
            before = self.now
            yield "disk", moving
            self.found.disk += self.now - before
            waiting, self.heads[head] = self.heads[head], None
            for worker in waiting or []:
                self.later(self.now, worker)
            return
        before = self.now
        yield "head", head
        self.found.head += self.now - before
        before = self.now
        yield "disk", moving
        self.found.disk += self.now - before


def record(folder: Path) -> dict[str, float]:
    """Return stage times and sizes of the jobs in a folder of a batch."""
    batch = BatchFolder(folder)
    found = [batch.done(key) for key in batch.finished()]
    kept = [done for done in found if done is not None]
    own = [done for done in kept if not done["shared"]["views"]]
    sizes = [[p.stat().st_size for p in batch.job(done["key"]).iterdir()] for done in kept]
    render, save = "render the views", "save"
    shared = [path.stat().st_size for path in batch.shared.glob("head-*.safetensors")]
    return {
        "jobs": len(kept),
        "processor_seconds": mean(done["processor_seconds"] for done in kept),
        "render": mean(done["stages"][render] / done["seconds"] for done in own),
        "save": mean(done["stages"][save] / done["seconds"] for done in kept),
        "result_mb": mean(map(sum, sizes)) / 2**20,
        "files": mean(map(len, sizes)),
        "views_mb": mean(shared) / 2**20,
    }


class Instant:
    """An engine whose workers finish at once, to see what the main process costs."""

    def __init__(self, workers: int, reports: int, folder: BatchFolder) -> None:
        self.workers, self.reports, self.folder = workers, reports, folder
        self.said: list[Event] = []

    def __enter__(self) -> Instant:
        self.said = [Event(worker, READY) for worker in range(self.workers)]
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def give(self, worker: int, task: object) -> None:
        key = task.job.key  # type: ignore[attr-defined]
        for number in range(self.reports):
            self.said.append(Event(worker, SHARE, (number / self.reports, None)))
        self.said.append(Event(worker, OUTCOME, Outcome(key, DONE, "", 1.0, 1.0)))

    def events(self, seconds: float) -> list[Event]:
        said, self.said = self.said, []
        return said


def measure(jobs: int = 4000, workers: int = 100) -> dict[str, float]:
    """Return processor seconds of the main process: for a job, for a report, for the page."""
    entry = {"prompts": [f"style {n}" for n in range(40)], "seeds": f"1-{jobs // 40}"}
    tasks = tasks_of(make_jobs([Entry("measured", entry)], MODELS))
    costs = {}
    with tempfile.TemporaryDirectory() as place:
        folder = BatchFolder(Path(place))
        folder.prepare()
        folder.keep_plan([task.job for task in tasks], {})
        for reports in (0, 20):
            begun = time.process_time()
            Run(tasks, folder, Instant(workers, reports, folder), lambda event: None).run()
            costs[reports] = (time.process_time() - begun) / len(tasks)
        for task in tasks:
            with folder.making(task.job.key) as work:
                done = {**described(task.job), "files": [], "shared": {}, "seconds": 1.0}
                folder.finish(task.job.key, work, done)
        page = Page(folder)
        first = _seconds(page.write)
        again = _seconds(page.write)
    return {
        "jobs": len(tasks),
        "hand_out": costs[0],
        "report": (costs[20] - costs[0]) / 20,
        "page_first": first,
        "page_again": again,
    }


def _seconds(work: object) -> float:
    begun = time.process_time()
    work()  # type: ignore[operator]
    return time.process_time() - begun


def table(sites: dict[str, Site], sizes: list[int], styles: int, heads: int) -> str:
    """Return what becomes of a batch, a row for each site and number of workers."""
    head = (
        "| | workers | batch takes | jobs/h | useful | models | head | disk | main | lost | idle |"
    )
    lines = [head, "|---|" + "---:|" * 10]
    for name, site in sites.items():
        for workers in sizes:
            found = Simulation(site, workers, styles, heads).run()
            shares = " | ".join(f"{found.share(part, workers):.0%}" for part in PARTS)
            rate = 3600 * styles * heads / found.makespan
            lines.append(
                f"| {name} | {workers} | {_time(found.makespan)} | {rate:,.0f} | {shares} |"
            )
    return "\n".join(lines)


# Clay: `record` of twelve jobs of the fast preset on two workers, in processor seconds of one core.
# Main process: `measure` and a pipe (9 us a message), with room; an actor of Ray takes 0.2 ms a
# look, at most 50 a second. Full size: sizes counted, seconds of a card assumed, not measured.
CLAY = Site(
    render=1.7, work=21.4, save=1.3, result_mb=5.2, files=8, views_mb=1.9, models_mb=37, load=4,
    hand_out=1e-3, report=2e-5,
)  # fmt: skip
FULL = replace(
    CLAY, render=6, work=60, save=6, result_mb=90, views_mb=320, models_mb=5000, load=30
)  # fmt: skip
COPIED = replace(FULL, copies=True)
SITES = {
    "clay, one core each": CLAY,
    "clay, ten times as fast": replace(CLAY, render=0.17, work=2.14),
    "full size": FULL,
    "full size, models copied": COPIED,
    "the same, nothing shared": replace(COPIED, share=False),
    "the same, disk of 100 MB/s": replace(COPIED, share=False, disk_mb=100),
    "nothing shared, 5 % of workers lost an hour": replace(COPIED, share=False, lost=0.05),
}


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.1f} min"


def main() -> None:
    """Print what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("record", "measure", "simulate"))
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--styles", type=int, default=40)
    parser.add_argument("--heads", type=int, default=250)
    args = parser.parse_args()
    if args.what == "record":
        print(json.dumps(record(args.folder), indent=1))
    elif args.what == "measure":
        print(json.dumps(measure(), indent=1))
    else:
        print(table(SITES, [10, 100, 1000], args.styles, args.heads))


if __name__ == "__main__":
    main()
